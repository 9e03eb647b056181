"""`minidalle evaluate`: how faithful a bundle's pictures are, as JSON; with --data, how like your
own ones."""

import argparse
import json
import tempfile
import warnings
from functools import partial
from pathlib import Path

from minidalle.cli.arguments import check_writable, path
from minidalle.cli.errors import print_note
from minidalle.cli.progress import progress_bar
from minidalle.cli.reading import add_reading_options, read_pictures
from minidalle.datasets.source import FolderSource
from minidalle.errors import MinidalleError
from minidalle.evaluation import report
from minidalle.evaluation.pictures import evaluate_pictures
from minidalle.normalise import normalise_caption
from minidalle.pipeline import MiniDALLE


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("evaluate", help="measure caption fidelity with the exact judge")
    p.set_defaults(run=evaluate)
    p.add_argument("--bundle", type=path, help="a trained bundle (the one that ships)")
    p.add_argument("--data", type=path, metavar="FOLDER",
                   help="your own held-out pictures in place of the storybook")  # fmt: skip
    add_reading_options(p)
    p.add_argument("--features", type=path, metavar="BUNDLE",
                   help="with --data: a bundle whose CLIP judges (the bundle's own)")  # fmt: skip
    p.add_argument("--split", choices=("validation", "compositions", "test"),
                   help="(validation; with --data, test)")  # fmt: skip
    p.add_argument("--language", choices=("en", "zh"), default="en")
    p.add_argument("--captions", type=int, default=600, help="how many captions (600)")
    p.add_argument("--candidates", type=int, nargs="+", default=[1, 32], help="best of (1 32)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", type=path, metavar="FILE", help="write the report here as well")
    return p


def evaluate(args: argparse.Namespace) -> None:
    """Measure, print the report, and write it if asked to."""
    if args.json:
        check_writable(args.json)
    model = MiniDALLE.load(args.bundle, args.device)
    if args.data:
        _write(_evaluate_pictures(model, args), args.json)
        return
    if args.split == "test" or args.features:
        raise MinidalleError("--split test and --features are for your own pictures: name --data")
    if not model.info.get("source", "the storybook").startswith("the storybook"):
        print_note(f"trained on {model.info['source']}; judged on the storybook")
    bar = partial(progress_bar, total=args.captions, desc="judging", unit="caption")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "caption cut|CLIP ranks by"
        )  # one note covers all of them
        measured, judged = report.evaluate(
            model,
            args.split or "validation",
            args.language,
            args.captions,
            args.candidates,
            args.seed,
            bar,
        )
    _note_long_captions(model, [caption.caption for caption in judged])
    _write(measured, args.json)


def _evaluate_pictures(model: MiniDALLE, args: argparse.Namespace) -> dict:
    """The report on the pictures of --data."""
    if args.split == "compositions":
        raise MinidalleError("--split compositions is of the storybook: leave --data or it out")
    features = MiniDALLE.load(args.features, args.device) if args.features else None
    with tempfile.TemporaryDirectory(prefix="minidalle-", ignore_cleanup_errors=True) as scratch:
        folder = read_pictures(args, Path(scratch), model.dvae.config.image_size)
        bar = partial(progress_bar, total=args.captions, desc="drawing", unit="picture")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "caption cut|CLIP ranks by")
            measured, _ = evaluate_pictures(
                model, FolderSource(folder), split=args.split or "test", features=features,
                pictures=args.captions, seed=args.seed, progress=bar,
            )  # fmt: skip
    if features is None:
        print_note("features and scores are of the bundle's own CLIP; --features names another")
    return measured


def _write(measured: dict, file: Path | None) -> None:
    text = json.dumps(measured, indent=2, ensure_ascii=False)
    print(text)
    if file:
        file.write_text(text + "\n", encoding="utf-8")


def _note_long_captions(model: MiniDALLE, captions: list[str]) -> None:
    """One line for all of them, and not one for each as it is drawn."""
    length = min(model.prior.config.text_length, model.clip.config.text_length)
    tokens = [len(model.tokenizer.encode(normalise_caption(caption))) for caption in captions]
    if long := sum(n > length for n in tokens):
        print_note(
            f"{long} of {len(captions)} captions are longer than {length} tokens and were cut"
        )
