"""`minidalle edit`: part of a picture is drawn anew, or a damaged picture is repaired."""

import argparse
from dataclasses import replace

import numpy as np

from minidalle.cli.arguments import check_writable, path
from minidalle.cli.errors import print_note, printable
from minidalle.datasets.images import load_image
from minidalle.editing import Region, edit, repair
from minidalle.errors import MinidalleError
from minidalle.pipeline import MiniDALLE
from minidalle.tensors import to_tensor, to_uint8
from minidalle.world.finding import find_thing


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("edit", help="draw part of a picture anew, or repair it")
    p.set_defaults(run=run)
    p.add_argument("picture", type=path, metavar="PICTURE")
    p.add_argument(
        "--caption",
        default="",
        help="what the whole picture shall show (with --repair: what it shows, if known)",
    )
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--region",
        type=region,
        metavar="X0,Y0,X1,Y1",
        help="pixels to draw anew, of the picture at the model's size",
    )
    what.add_argument(
        "--thing",
        metavar="WORDS",
        help='the thing to draw anew: "the red car" (storybook pictures only)',
    )
    what.add_argument("--repair", action="store_true", help="remove noise; keep everything else")
    p.add_argument(
        "--noise",
        type=float,
        metavar="SD",
        help="standard deviation of the noise, 0 to 1 (estimated from the picture)",
    )
    p.add_argument("--candidates", type=int, default=16, help="how many to draw (16)")
    p.add_argument("--keep", type=int, default=4, help="how many to show, best first (4)")
    p.add_argument("--seed", type=int, default=0, help="another seed, other pictures (0)")
    p.add_argument("--temperature", type=float, help="below 1 safer, above 1 wilder")
    p.add_argument("--bundle", type=path, help="a trained bundle (the one that ships)")
    p.add_argument("--out", type=path, default="edited.png", help="picture file (edited.png)")
    return p  # fmt: skip


def region(text: str) -> Region:
    """Four numbers with commas between them."""
    try:
        x0, y0, x1, y1 = map(int, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no region; give four numbers of pixels, such as 8,8,24,24"
        ) from error
    return x0, y0, x1, y1


def run(args: argparse.Namespace) -> None:
    """Edit, save a strip of the picture and its edits, and print where."""
    check_writable(args.out, is_picture=True)
    if not args.repair and not args.caption.strip():
        raise MinidalleError(
            'a caption of the whole picture is needed; for instance --caption "a blue car on the'
            ' grass"'
        )
    model = MiniDALLE.load(args.bundle, args.device)
    image = load_image(args.picture, model.dvae.config.image_size)
    sampling = {} if args.temperature is None else {"temperature": args.temperature}
    many = {"candidates": args.candidates, "keep_best": args.keep, "seed": args.seed}
    if args.repair:
        ranked = repair(model, image, args.caption, args.noise, **many, **sampling)
    else:
        _note_loss(model, image)
        where = args.region or find_thing(image, args.thing)
        ranked = edit(model, image, args.caption, where, **many, **sampling)
    shown = replace(
        ranked,
        images=np.concatenate([image[None], ranked.images]),
        scores=np.concatenate([[np.nan], ranked.scores]),
    )
    saved = shown.save(args.out)
    print(f"{printable(saved)}: the picture and {len(ranked.images)} of {args.candidates} edits")


def _note_loss(model: MiniDALLE, image: np.ndarray) -> None:
    """Say what the codes lose of a picture that is not of the model's world."""
    x = to_tensor([image], model.device)
    again = to_uint8(model.dvae.decode(model.dvae.encode(x)))[0].astype(float)
    apart = np.sqrt(np.mean((again - image) ** 2))
    if apart > MAX_LOSS:
        print_note(
            f"the model's codes show this picture {apart:.0f} grey levels off: what is drawn anew"
            " will look like its own world"
        )


MAX_LOSS = 24.0  # grey levels, root mean square; storybook pictures lose about 12
