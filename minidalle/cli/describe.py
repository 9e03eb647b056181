"""`minidalle describe`: from a picture to its caption."""

import argparse

from minidalle.cli.arguments import path
from minidalle.cli.errors import printable
from minidalle.datasets.images import load_image
from minidalle.describing import describe_picture, rank_captions
from minidalle.pipeline import MiniDALLE


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("describe", help="write the caption of a picture, or rank captions")
    p.set_defaults(run=run)
    p.add_argument("picture", type=path, metavar="PICTURE")
    p.add_argument("--captions", nargs="+", metavar="CAPTION", help="captions to rank (write one)")
    p.add_argument("--language", choices=("en", "zh"), default="en")
    p.add_argument("--bundle", type=path, help="a trained bundle (the one that ships)")
    return p


def run(args: argparse.Namespace) -> None:
    """Print the caption, or the captions given with their probabilities."""
    model = MiniDALLE.load(args.bundle, args.device)
    image = load_image(args.picture, model.dvae.config.image_size)
    if not args.captions:
        print(describe_picture(model, image, args.language)[0])
        return
    for caption, share in rank_captions(model, image, args.captions):
        print(f"{share:.3f}  {printable(caption)}")
