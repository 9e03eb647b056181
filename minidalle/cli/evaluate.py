"""`minidalle evaluate`: how faithful a bundle's pictures are, as JSON."""

import argparse
import json
import warnings
from functools import partial

from minidalle.cli.arguments import check_writable, path
from minidalle.cli.errors import print_note
from minidalle.cli.progress import progress_bar
from minidalle.evaluation import report
from minidalle.normalise import normalise_caption
from minidalle.pipeline import MiniDALLE


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("evaluate", help="measure caption fidelity with the exact judge")
    p.set_defaults(run=evaluate)
    p.add_argument("--bundle", type=path, help="a trained bundle (the one that ships)")
    p.add_argument("--split", choices=("validation", "compositions"), default="validation")
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
    if not model.info.get("source", "the storybook").startswith("the storybook"):
        print_note(f"trained on {model.info['source']}; judged on the storybook")
    bar = partial(progress_bar, total=args.captions, desc="judging", unit="caption")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "caption cut|CLIP ranks by"
        )  # one note covers all of them
        measured, judged = report.evaluate(
            model, args.split, args.language, args.captions, args.candidates, args.seed, bar
        )
    _note_long_captions(model, [caption.caption for caption in judged])
    text = json.dumps(measured, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


def _note_long_captions(model: MiniDALLE, captions: list[str]) -> None:
    """One line for all of them, and not one for each as it is drawn."""
    length = min(model.prior.config.text_length, model.clip.config.text_length)
    tokens = [len(model.tokenizer.encode(normalise_caption(caption))) for caption in captions]
    if long := sum(n > length for n in tokens):
        print_note(
            f"{long} of {len(captions)} captions are longer than {length} tokens and were cut"
        )
