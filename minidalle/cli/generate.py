"""`minidalle generate`: a caption becomes ranked pictures, in one labelled strip."""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

from minidalle.cli.arguments import check_writable, path
from minidalle.cli.errors import print_note, printable
from minidalle.cli.progress import progress_bar
from minidalle.files import resolve
from minidalle.pipeline import MiniDALLE, Ranked


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("generate", help="a caption becomes ranked pictures")
    p.set_defaults(run=generate)
    p.add_argument("captions", nargs="+", metavar="CAPTION",
                   help='in English or Chinese: "a red car on the grass"')  # fmt: skip
    p.add_argument("--candidates", type=int, default=32, help="pictures to draw (32)")
    p.add_argument("--keep", type=int, help="pictures to keep, best first (4, or all if fewer)")
    p.add_argument("--seed", type=int, default=0, help="another seed, other pictures (0)")
    p.add_argument("--temperature", type=float, help="below 1 safer, above 1 wilder")
    p.add_argument("--guidance", type=float, help="how hard to follow the caption; 1 is plain")
    p.add_argument("--top-k", type=int, help="draw among the k likeliest codes only")
    p.add_argument("--top-p", type=float, help="draw among codes that reach this probability")
    p.add_argument("--bundle", type=path, help="a trained bundle (the one that ships)")
    p.add_argument("--out", type=path,
                   help="picture file, or folder for separate ones (pictures.png)")  # fmt: skip
    p.add_argument("--show", action="store_true", help="open the pictures as well")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def generate(args: argparse.Namespace) -> None:
    """Draw, rank, save, and print where."""
    several = len(args.captions) > 1
    out = args.out or Path("pictures" if several else "pictures.png")
    is_folder = several or out.is_dir() or not out.suffix
    if is_folder:
        resolve(out)  # raises for a link to itself
    else:
        check_writable(out, is_picture=True)
    model = MiniDALLE.load(args.bundle, args.device)
    for i, caption in enumerate(args.captions, 1):
        ranked = _draw(model, caption, args)
        if is_folder:
            target = out / f"{i:02d}" if several else out
            ranked.save_images(target)
            saved = ranked.save(target / "strip.png")
        else:
            saved = ranked.save(out)
        _report(ranked, saved, args)


def _draw(model: MiniDALLE, caption: str, args: argparse.Namespace) -> Ranked:
    show = not args.json and sys.stderr.isatty()  # seconds: no lines for a log file
    steps = model.dvae.config.grid**2
    bar = partial(progress_bar, total=steps, desc="drawing", unit="code", show=show)
    return model.generate(
        caption, args.candidates, args.keep, args.seed, progress=bar,
        temperature=args.temperature, guidance=args.guidance, top_k=args.top_k, top_p=args.top_p,
    )  # fmt: skip


def _report(ranked: Ranked, out: Path, args: argparse.Namespace) -> None:
    """Print, and open if asked to, what was drawn for one caption."""
    if args.show and _no_screen():
        print_note(f"no screen here to show them on; open {out}")
    elif args.show:
        ranked.strip().show(title=ranked.caption)  # in the system's own viewer
    if args.json:
        print(json.dumps({
            "caption": ranked.caption, "seed": args.seed, "candidates": args.candidates,
            "scores": [round(float(s), 4) for s in ranked.scores],
            "order": ranked.order.tolist(), "out": str(out),
        }, ensure_ascii=False))  # fmt: skip
    else:
        scores = ", ".join(f"{s:.3f}" for s in ranked.scores)
        kept = f"best {len(ranked.scores)} of {args.candidates}"
        print(f"{printable(out)}: {kept}, similarity {scores}")


def _no_screen() -> bool:
    """A server or a container: a viewer started there would only print errors."""
    screens = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform == "linux" and not screens
