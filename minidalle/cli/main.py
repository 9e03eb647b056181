"""The command line: `minidalle generate`, `train`, `evaluate` and `check progress`.

Whatever a user can get wrong ends in one line and exit status 2; Ctrl-C and SIGTERM end a training
at the next step, saved, with 130 and 143.
"""

import argparse
import json
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from minidalle.cli.progress import Stop, learn, learn_beside, run, wait_for
from minidalle.errors import MinidalleError


def generate(args: argparse.Namespace) -> None:
    """Caption → ranked pictures, one labelled strip."""
    from minidalle.pipeline import MiniDALLE

    _can_write(args.out, picture=True)
    model = MiniDALLE.load(args.bundle, args.device)
    steps = model.dvae.config.grid**2
    bar = partial(tqdm, total=steps, desc="drawing", unit="code", disable=args.json or None)
    ranked = model.generate(
        args.caption, args.candidates, args.keep, args.seed, progress=bar,
        temperature=args.temperature, guidance=args.guidance, top_k=args.top_k, top_p=args.top_p,
    )  # fmt: skip
    out = ranked.save(args.out)
    if args.show and _no_screen():
        print(f"note: no screen here to show them on; open {out}", file=sys.stderr)
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
        print(f"{out}: best {len(ranked.scores)} of {args.candidates}, similarity {scores}")


def _no_screen() -> bool:
    """A server or a container: what would look for a viewer there only complains."""
    screens = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return sys.platform == "linux" and not screens


def train(args: argparse.Namespace) -> None:
    """One stage, or all four and the bundle; under torchrun, one of the processes that do it."""
    from minidalle.datasets.archives import unpack
    from minidalle.datasets.image_folder import ImageFolder
    from minidalle.datasets.source import FolderSource
    from minidalle.training import distributed
    from minidalle.training.assemble import assemble
    from minidalle.training.background import Beside
    from minidalle.training.presets import preset
    from minidalle.training.stages import STAGES, Stages
    from minidalle.training.trainer import pick_device
    from minidalle.world.storybook import Storybook

    device = distributed.join(pick_device(args.device))
    leads = distributed.rank() == 0  # the others train as well, in silence
    chosen = preset(args.preset).with_batch_size(args.batch_size).in_parts(args.accumulate)
    chosen = chosen.with_rate(args.stage, args.lr)
    out = args.out or Path("runs") / chosen.name
    if args.data:
        if args.data.is_file():  # an archive: one process unpacks it, the others find it unpacked
            if leads:
                unpack(args.data, out / "pictures")
            distributed.wait()
            args.data = unpack(args.data, out / "pictures")
        bar = partial(tqdm, desc="reading pictures", unit="picture", disable=not leads)
        folder = ImageFolder(args.data, chosen.dvae.image_size, strict=args.strict, progress=bar)
        if leads:
            print(folder.report(), file=sys.stderr)
        source = FolderSource(folder)
    else:
        source = Storybook(chosen.dvae.image_size)
    stages = Stages(chosen, source, out, device)
    names = STAGES if args.stage == "all" else (args.stage,)
    for name in names:
        stages.check(name)  # before the first of them takes an hour
    # On a CPU alone, CLIP learns while the prior does.
    paired = args.stage == "all" and distributed.ranks() == 1 and device.type == "cpu"
    other = Beside(learn_beside, stages, "clip", args.resume)
    with Stop() as stop, ExitStack() as beside:
        for name in names:
            if name == "tokenizer":
                tokenizer = stages.tokenizer()
                if leads:
                    print(f"tokenizer: {tokenizer.vocab_size} tokens", file=sys.stderr)
                    _tell_of_long_captions(source, tokenizer, chosen.prior.text_length)
            elif name == "clip" and paired:
                if status := wait_for(other, stop):
                    sys.exit(status)
            else:
                if name == "prior" and paired:
                    beside.enter_context(other)
                if status := learn(stages, name, args.resume, stop):
                    sys.exit(status)
    distributed.leave()
    if args.stage == "all" and leads:
        print(f"bundle: {assemble(stages)}")


def _tell_of_long_captions(source, tokenizer, length: int) -> None:
    """One line for all of them, and not one for each as it is read."""
    captions = {source.caption("train", i) for i in range(source.epoch or 0)}
    long = [c for c in captions if len(tokenizer.encode(c.lower())) > length]
    if long:
        print(
            f"note: {len(long)} of {len(captions)} captions are longer than {length} tokens and are"
            f" cut there, for instance {long[0]!r}",
            file=sys.stderr,
        )


def evaluate(args: argparse.Namespace) -> None:
    """The report of evaluate.py as JSON."""
    from minidalle.evaluation.report import evaluate as measure
    from minidalle.pipeline import MiniDALLE

    if args.json:
        _can_write(args.json)
    model = MiniDALLE.load(args.bundle, args.device)
    if not model.info.get("source", "the storybook").startswith("the storybook"):
        print(f"note: trained on {model.info['source']}; judged on the storybook", file=sys.stderr)
    bar = partial(tqdm, total=args.captions, desc="judging", unit="caption")
    report, _ = measure(
        model, args.split, args.language, args.captions, args.candidates, args.seed, bar
    )
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


def _can_write(file: Path, picture: bool = False) -> None:
    """Raises MinidalleError at once for what would fail after minutes of drawing."""
    if picture and file.suffix.lower() not in Image.registered_extensions():
        raise MinidalleError(
            f"cannot write {file}: its ending does not name a kind of picture; for instance"
            f" {file.stem or 'pictures'}.png"
        )
    if not file.parent.is_dir():
        raise MinidalleError(f"cannot write {file}: there is no folder {file.parent}; make it")
    if file.is_dir():
        raise MinidalleError(f"cannot write {file}: it is a folder; name a file")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise MinidalleError(f"cannot write {file}: it is not yours to write; choose another place")


def check(args: argparse.Namespace) -> None:
    """Which exercises are passed, notebook by notebook."""
    try:
        from minidalle.lab.progress import reports, table
    except ImportError as error:
        raise MinidalleError(f"{error}: pip install -e '.[notebooks]' first") from error

    found = reports(args.paths, args.seconds, partial(tqdm, desc="running", unit="notebook"))
    print(json.dumps(found, indent=2, ensure_ascii=False) if args.json else table(found))


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="minidalle", description="Text becomes pictures.")
    commands = top.add_subparsers(dest="command", required=True)

    g = commands.add_parser("generate", help="a caption becomes ranked pictures")
    g.set_defaults(run=generate)
    g.add_argument("caption", help='in English or Chinese: "a red car on the grass"')
    g.add_argument("--candidates", type=int, default=32, help="pictures to draw (32)")
    g.add_argument("--keep", type=int, help="pictures to keep, best first (4, or all if fewer)")
    g.add_argument("--seed", type=int, default=0, help="another seed, other pictures (0)")
    g.add_argument("--temperature", type=float, help="below 1 safer, above 1 wilder")
    g.add_argument("--guidance", type=float, help="how hard to follow the caption; 1 is plain")
    g.add_argument("--top-k", type=int, help="draw among the k likeliest codes only")
    g.add_argument("--top-p", type=float, help="draw among codes that reach this probability")
    g.add_argument("--bundle", type=Path, help="a trained bundle (the one that ships)")
    g.add_argument("--out", type=Path, default=Path("pictures.png"), help="(pictures.png)")
    g.add_argument("--show", action="store_true", help="open the pictures as well")
    g.add_argument("--json", action="store_true", help="print the result as JSON")

    t = commands.add_parser("train", help="train a stage, or all of them into a bundle")
    t.set_defaults(run=train)
    t.add_argument("stage", choices=("tokenizer", "dvae", "prior", "clip", "all"))
    t.add_argument("--preset", help="smoke, class or full (class)")
    t.add_argument("--data", type=Path, metavar="FOLDER",
                   help="your own pictures, a folder or a .zip (the storybook)")  # fmt: skip
    t.add_argument("--strict", action="store_true", help="fail on the first bad picture in --data")
    t.add_argument("--out", type=Path, help="where checkpoints go (runs/PRESET)")
    t.add_argument("--accumulate", type=int, default=1, metavar="N",
                   help="draw each batch in N parts, to save memory; not CLIP's (1)")  # fmt: skip
    t.add_argument("--batch-size", type=int, metavar="N",
                   help="pictures an update, in every stage trained (the preset's)")  # fmt: skip
    t.add_argument("--lr", type=float, metavar="RATE",
                   help="peak learning rate, of one stage (the preset's)")  # fmt: skip
    t.add_argument("--resume", action="store_true", help="go on where an earlier run stopped")

    e = commands.add_parser("evaluate", help="measure caption fidelity with the exact judge")
    e.set_defaults(run=evaluate)
    e.add_argument("--bundle", type=Path, help="a trained bundle (the one that ships)")
    e.add_argument("--split", choices=("validation", "compositions"), default="validation")
    e.add_argument("--language", choices=("en", "zh"), default="en")
    e.add_argument("--captions", type=int, default=600, help="how many captions (600)")
    e.add_argument("--candidates", type=int, nargs="+", default=[1, 32], help="best of (1 32)")
    e.add_argument("--seed", type=int, default=0)
    e.add_argument("--json", type=Path, metavar="FILE", help="write the report here as well")

    c = commands.add_parser("check", help="which exercises a student's notebooks pass")
    c.set_defaults(run=check)
    c.add_argument("what", choices=("progress",))
    c.add_argument("paths", nargs="*", type=Path, default=[Path("notebooks/exercises")],
                   help="notebooks, or folders of them (notebooks/exercises)")  # fmt: skip
    c.add_argument("--seconds", type=int, default=30, help="time limit of a cell (30)")
    c.add_argument("--json", action="store_true", help="print the result as JSON")

    for command in (g, t, e):
        command.add_argument("--device", help="cpu, cuda, cuda:1, mps (cuda if there is one)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when all went well."""
    args = parser().parse_args(argv)
    return run(lambda: args.run(args))
