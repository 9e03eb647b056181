"""`minidalle train`: one stage, or all of them and the bundle."""

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tqdm import tqdm

from minidalle.cli.progress import (
    GracefulInterrupt,
    train_in_background,
    train_with_progress,
    wait_for,
)
from minidalle.datasets.archives import unpack
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.source import FolderSource
from minidalle.tensors import pick_device
from minidalle.training import distributed
from minidalle.training.background import BackgroundProcess
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.stages import NAMES
from minidalle.world.storybook import Storybook


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("train", help="train a stage, or all of them into a bundle")
    p.set_defaults(run=train)
    p.add_argument("stage", choices=(*NAMES, "all"))
    p.add_argument("--preset", help="smoke, class or full (class)")
    p.add_argument("--data", type=Path, metavar="FOLDER",
                   help="your own pictures, a folder or a .zip (the storybook)")  # fmt: skip
    p.add_argument("--strict", action="store_true", help="fail on the first bad picture in --data")
    p.add_argument("--out", type=Path, help="where checkpoints go (runs/PRESET)")
    p.add_argument("--accumulate", type=int, default=1, metavar="N",
                   help="microbatches per update, to save memory; not for CLIP (1)")  # fmt: skip
    p.add_argument("--batch-size", type=int, metavar="N",
                   help="pictures per update, in every stage trained (the preset's)")  # fmt: skip
    p.add_argument("--lr", type=float, metavar="RATE",
                   help="peak learning rate, of one stage (the preset's)")  # fmt: skip
    p.add_argument("--resume", action="store_true", help="continue where an earlier run stopped")
    return p


def train(args: argparse.Namespace) -> None:
    """Train; under torchrun, as one of its processes."""
    device = distributed.init(pick_device(args.device))
    is_main = distributed.is_main_process()  # the others train as well, in silence
    chosen = preset(args.preset).with_training(batch_size=args.batch_size)
    chosen = chosen.with_training("dvae", "prior", accumulate=args.accumulate)
    chosen = chosen.with_training(args.stage, lr=args.lr)
    out = args.out or Path("runs") / chosen.name
    source = _source(args, out, chosen.models["dvae"].image_size, is_main)
    run = TrainingRun(chosen, source, out, device)
    names = NAMES if args.stage == "all" else (args.stage,)
    for name in names:
        run.check(name)  # before the first of them takes an hour
    # On a CPU alone, CLIP trains while the prior does.
    in_parallel = args.stage == "all" and distributed.world_size() == 1 and run.device.type == "cpu"
    background = BackgroundProcess(train_in_background, run, "clip", args.resume)
    with GracefulInterrupt() as interrupt, ExitStack() as stack:
        for name in names:
            if name == "tokenizer":
                tokenizer = run.tokenizer()
                if is_main:
                    print(f"tokenizer: {tokenizer.vocab_size} tokens", file=sys.stderr)
                    _note_long_captions(source, tokenizer, chosen.models["prior"].text_length)
            elif name == "clip" and in_parallel:
                if status := wait_for(background, interrupt):
                    sys.exit(status)
            else:
                if name == "prior" and in_parallel:
                    stack.enter_context(background)
                if status := train_with_progress(run, name, args.resume, interrupt):
                    sys.exit(status)
    distributed.shutdown()
    if args.stage == "all" and is_main:
        print(f"bundle: {run.assemble()}")


def _source(args: argparse.Namespace, out: Path, image_size: int, is_main: bool):
    """The storybook, or the pictures of --data, with a report of what could not be read."""

    if not args.data:
        return Storybook(image_size)
    data = args.data
    if data.is_file():  # an archive: one process unpacks it, the others find it unpacked
        if is_main:
            unpack(data, out / "pictures")
        distributed.barrier()
        data = unpack(data, out / "pictures")
    bar = partial(tqdm, desc="reading pictures", unit="picture", disable=not is_main)
    folder = CaptionedImageFolder(data, image_size, strict=args.strict, progress=bar)
    if is_main:
        print(folder.report(), file=sys.stderr)
    return FolderSource(folder)


def _note_long_captions(source, tokenizer, length: int) -> None:
    """One line for all of them, and not one for each as it is read."""
    captions = {source.caption("train", i) for i in range(source.epoch or 0)}
    long = [c for c in captions if len(tokenizer.encode(c.lower())) > length]
    if long:
        print(
            f"note: {len(long)} of {len(captions)} captions are longer than {length} tokens and are"
            f" cut there, for instance {long[0]!r}",
            file=sys.stderr,
        )
