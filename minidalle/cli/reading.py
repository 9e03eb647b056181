"""Reading a user's own pictures, for `train --data` and `data check`."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from minidalle.cli.progress import progress_bar
from minidalle.datasets.archives import unpack
from minidalle.datasets.image_folder import CaptionedImageFolder
from minidalle.datasets.images import CROPS
from minidalle.datasets.shards import find_shards, unpack_shards
from minidalle.files import resolve
from minidalle.training import distributed


def add_reading_options(p: argparse.ArgumentParser) -> None:
    """The options that say how the pictures are read."""
    p.add_argument("--strict", action="store_true", help="fail on the first bad picture")
    p.add_argument("--caption-column", metavar="NAME",
                   help="column of the captions in your tables (text or caption)")  # fmt: skip
    p.add_argument("--crop", choices=CROPS,
                   help="of your pictures the centre, or all on white (centre)")  # fmt: skip


def read_pictures(
    args: argparse.Namespace, into: Path, image_size: int, is_main: bool = True
) -> CaptionedImageFolder:
    """The pictures of `args.data`: a folder, or an archive or shards that are unpacked in `into`.

    is_main: of several processes, the one that unpacks and shows its progress.
    """
    data = args.data
    resolve(data)  # raises for a link to itself
    shards = find_shards(data)
    if shards or data.is_file():  # one process unpacks it, the others find it unpacked

        def unpacked() -> Path:
            return unpack_shards(data, shards, into) if shards else unpack(data, into)

        if is_main:
            unpacked()
        distributed.barrier()
        folder = unpacked()
    else:
        folder = data

    def bar(names: Iterable[str]) -> Iterable[str]:
        names = list(names)
        return progress_bar(
            names, total=len(names), desc="reading pictures", unit="picture", show=is_main
        )

    return CaptionedImageFolder(
        folder, image_size, strict=args.strict, progress=bar, caption_column=args.caption_column,
        crop=args.crop or "centre",
    )  # fmt: skip
