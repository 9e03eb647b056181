"""`minidalle compare`: DALL·E and the other systems, on the same captions under the same judge."""

import argparse
import json
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from minidalle import contact_sheet
from minidalle.cli.arguments import check_writable, path
from minidalle.cli.errors import print_note, printable
from minidalle.cli.progress import progress_bar
from minidalle.cli.table import text_table
from minidalle.errors import MinidalleError
from minidalle.evaluation.compare import draw_examples, measure, skills
from minidalle.evaluation.runs import open_runs, storybook
from minidalle.evaluation.summary import Estimate, over_seeds, summarise
from minidalle.evaluation.systems import NAMES, System, cost, models_behind, trained_systems
from minidalle.pipeline import MiniDALLE
from minidalle.tensors import pick_device
from minidalle.training.run import TrainingRun
from minidalle.world.facts import SKILLS
from minidalle.world.storybook import Storybook


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("compare", help="measure all trained systems on the same captions")
    p.set_defaults(run=compare)
    p.add_argument("runs", nargs="+", type=path, metavar="OUT",
                   help="the --out of a training; several: of other seeds only")  # fmt: skip
    p.add_argument("--systems", nargs="+", choices=NAMES, default=list(NAMES), metavar="SYSTEM",
                   help=f"some of {', '.join(NAMES)} (all that are trained)")  # fmt: skip
    p.add_argument("--captions", type=int, default=300, help="how many of each split (300)")
    p.add_argument("--candidates", type=int, default=16,
                   help="pictures of one caption, for diversity and speed (16)")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="of the drawings (0)")
    p.add_argument("--features", type=path, metavar="BUNDLE",
                   help="whose CLIP gives FID its features (the bundle that ships)")  # fmt: skip
    p.add_argument("--json", type=path, metavar="FILE", help="write the figures here")
    p.add_argument("--picture", type=path, metavar="FILE",
                   help="write a sheet of eight captions, drawn by every system")  # fmt: skip
    return p


def compare(args: argparse.Namespace) -> None:
    """Measure, print the table, and write figures and pictures if asked to."""
    for file, is_picture in ((args.json, False), (args.picture, True)):
        if file:
            check_writable(file, is_picture)
    runs = open_runs(args.runs, pick_device(args.device))
    systems = _find_systems(runs, args.systems)
    book = Storybook(storybook(runs[0]).size, lone=storybook(runs[0]).lone)  # one for all seeds
    features = _load_features(args, book)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "caption cut")  # once per drawing
        measured = measure(
            systems, features, book, captions=args.captions, candidates=args.candidates,
            seed=args.seed, progress=_bar,
        )  # fmt: skip
        document = {
            "preset": runs[0].preset.name,
            "source": book.name,
            "runs": [{"out": str(run.out), "seed": storybook(run).seed} for run in runs],
            "captions": args.captions,
            "candidates": args.candidates,
            "seed": args.seed,
            "features": f"CLIP trained on {features.info.get('source', 'unknown pictures')}",
            "shared": _shared_costs(runs, systems),
            "systems": summarise(measured, skills(book, args.captions)),
        }
        print(printable(report(document)))
        if args.json:
            text = json.dumps(_plain(document), indent=2, ensure_ascii=False)
            args.json.write_text(text + "\n", encoding="utf-8")
        if args.picture:
            _write_picture(systems, book, args)


def _find_systems(runs: Sequence[TrainingRun], stages: Sequence[str]) -> list[System]:
    """The trained systems of all runs, with a note for each that is not trained in some of them.

    Raises MinidalleError where none is trained in any.
    """
    systems = [system for run in runs for system in trained_systems(run, stages)]
    if not systems:
        raise MinidalleError(
            f"none of {', '.join(stages)} is trained in {', '.join(str(run.out) for run in runs)}:"
            f" run {_train_command(runs[0], stages[0])}"
        )
    for stage in stages:
        found = {system.seed for system in systems if system.stage == stage}
        if missing := [run for run in runs if storybook(run).seed not in found]:
            print_note(
                f"{NAMES[stage]} is not trained in {', '.join(str(run.out) for run in missing)} and"
                f" left out there: run {_train_command(missing[0], stage)}"
            )
    return systems


def _train_command(run: TrainingRun, stage: str) -> str:
    """The command that trains a stage of a run."""
    book = storybook(run)
    options = f"--preset {run.preset.name}{' --lone' if book.lone else ''}"
    return f"minidalle train {stage} {options} --seed {book.seed} --out {run.out}"


def _load_features(args: argparse.Namespace, book: Storybook) -> MiniDALLE:
    features = MiniDALLE.load(args.features, args.device)
    size = features.clip.config.image_size
    if size != book.size:
        raise MinidalleError(
            f"{args.features or 'the bundle that ships'} reads pictures of {size} pixels and these"
            f" runs draw {book.size}: name another bundle with --features"
        )
    return features


def _shared_costs(runs: Sequence[TrainingRun], systems: Sequence[System]) -> dict[str, Any]:
    """What the models that systems need beside their own took: parameters, minutes."""
    shared = {}
    for name in ("dvae", "clip"):
        seeds = {system.seed for system in systems if name in models_behind(system.stage)}
        costs = [cost(run, name, run.model(name)) for run in runs if storybook(run).seed in seeds]
        if not costs:
            continue
        minutes = over_seeds([c.minutes for c in costs])
        shared[name] = {"parameters": costs[0].parameters, "minutes": minutes}
    return shared


def _write_picture(systems: Sequence[System], book: Storybook, args: argparse.Namespace) -> None:
    """One sheet: a row per example caption, a column per system, all of its first run."""
    shown = [next(s for s in systems if s.stage == stage) for stage in NAMES
             if any(s.stage == stage for s in systems)]  # fmt: skip
    captions, rows = draw_examples(shown, book.lone, args.seed)
    contact_sheet.grid(rows, captions, [system.name for system in shown]).save(args.picture)
    print(f"{printable(args.picture)}: {len(captions)} captions × {len(shown)} systems")


def _bar(items: Sequence, name: str) -> Iterable:
    return progress_bar(items, total=len(items), desc=name, unit="drawing")


# --- The report -----------------------------------------------------------------------------------


def report(document: dict[str, Any]) -> str:
    """The figures as three tables, what they draw, by skill, and what they cost, and two notes."""
    rows = document["systems"]
    names = [_label(row) for row in rows]
    drawn = [[_share(row["validation"]), _share(row["compositions"]), _share(row["diversity"]),
              f"{row['fid'].mean:.3f}"] for row in rows]  # fmt: skip
    by_skill = [
        [f"{row['skills'][s].mean:.2f}" if s in row["skills"] else "–" for s in SKILLS]
        for row in rows
    ]
    costs = [[f"{row['parameters']:,}", f"{row['minutes'].mean:.1f}",
              f"{row['pictures_per_second'].mean:.1f}", str(row["lines"])]
             for row in rows]  # fmt: skip
    tables = (
        (("validation", "compositions", "diversity", "FID"), drawn),
        (SKILLS, by_skill),
        (("parameters", "minutes", "pictures/s", "lines"), costs),
    )
    texts = [
        text_table(("system", *header), [[n, *cells] for n, cells in zip(names, body, strict=True)])
        for header, body in tables
    ]
    return "\n\n".join([*texts, _notes(document)])


def _label(row: dict[str, Any]) -> str:
    """The name of a system; with the updates made where they are fewer than the preset's."""
    if not row["unfinished"]:
        return row["name"]
    return f"{row['name']} ({min(row['steps'])} of {row['steps_of_preset']} steps)"


def _share(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _notes(document: dict[str, Any]) -> str:
    """What the numbers are of."""
    seeds = len(document["runs"])
    over = "captions" if seeds == 1 else f"{seeds} seeds and captions"
    lines = [
        f"share right of {document['captions']} captions of each split, first drawing; 95 %"
        f" intervals over {over}",
        f"FID in the features of {document['features']}",
        "parameters, minutes and lines of the system's own stage",
    ]
    for model, row in document["shared"].items():
        names = ", ".join(s["name"] for s in document["systems"] if model in s["needs"])
        lines.append(
            f"{model}, which also goes into {names}: {row['parameters']:,} parameters,"
            f" {row['minutes'].mean:.1f} minutes"
        )
    return "\n".join(lines)


def _plain(document: Any) -> Any:
    """A document for JSON: each Estimate as a dict."""
    if isinstance(document, Estimate):
        return document._asdict()
    if isinstance(document, dict):
        return {key: _plain(value) for key, value in document.items()}
    return [_plain(value) for value in document] if isinstance(document, list) else document
