"""`minidalle finetune`: a trained bundle goes on learning from your own pictures."""

import argparse
from pathlib import Path

from minidalle.bundle import default_bundle
from minidalle.cli.arguments import path
from minidalle.cli.train import add_training_options, train

REPLAY = 0.25  # of the examples come from the storybook, so that it is not forgotten


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("finetune", help="teach a trained bundle your own pictures")
    p.add_argument("data", type=path, metavar="FOLDER",
                   help="your pictures: a folder, .zip or .tar shards")  # fmt: skip
    p.add_argument("--bundle", type=path, help="a trained bundle (the one that ships)")
    p.add_argument("--out", type=path, help="where checkpoints go (runs/finetune)")
    add_training_options(p)
    p.set_defaults(
        run=finetune, stages=["all"], preset="finetune", replay=REPLAY, lone=False, lr=None,
        text_length=None,
    )  # fmt: skip
    return p


def finetune(args: argparse.Namespace) -> None:
    """Train all stages from the bundle, each until its validation loss no longer falls."""
    args.init = args.bundle or Path(default_bundle())
    train(args)
