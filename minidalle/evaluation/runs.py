"""Read run directories back: which preset and which world each was trained at.

`run.json` records the source and the sizes, from which both are found. Several runs are compared
only where they differ in nothing but their seed.
"""

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch

from minidalle.errors import MinidalleError
from minidalle.files import read_file
from minidalle.training.presets import PRESETS
from minidalle.training.run import TrainingRun
from minidalle.world.storybook import Storybook

STORYBOOK = re.compile(r"the storybook.*, (\d{1,4}) pixels, seed (\d{1,13})(, lone things)?")


def open_runs(outs: Sequence[Path], device: torch.device | None = None) -> list[TrainingRun]:
    """The runs in some directories, which have one preset and one world, and different seeds.

    Raises MinidalleError where they do not, or where a directory is no run.
    """
    runs = [open_run(out, device) for out in outs]
    for a, b in combinations(runs, 2):
        if a.preset.name != b.preset.name:
            raise MinidalleError(
                f"{a.out} is trained at preset {a.preset.name} and {b.out} at {b.preset.name}:"
                " compare runs of one preset"
            )
        world_a, world_b = storybook(a), storybook(b)
        if replace(world_a, seed=0) != replace(world_b, seed=0):
            raise MinidalleError(
                f"{a.out} is trained on {a.source.name} and {b.out} on {b.source.name}: compare"
                " runs of one world, all with --lone or all without"
            )
        if world_a.seed == world_b.seed:
            raise MinidalleError(
                f"{a.out} and {b.out} have the same seed, {world_a.seed}: leave one out, or train"
                " it with another --seed"
            )
    return runs


def open_run(out: Path, device: torch.device | None = None) -> TrainingRun:
    """The run in a directory, at its own preset and on its own storybook; nothing is written.

    Raises MinidalleError where there is none, where it was trained on other pictures, or where its
    sizes are those of no preset.
    """
    for name in ("run.json", "tokenizer.json"):
        if not (out / name).is_file():
            raise MinidalleError(
                f"{out} is no run to compare, it has no {name}: name the --out of minidalle train"
            )
    source = _recorded_storybook(out / "run.json")
    for preset in PRESETS.values():
        run = TrainingRun(preset, source, out, device)
        with contextlib.suppress(MinidalleError):
            run.check_identity()
            return run
    raise MinidalleError(
        f"{out} is trained at the sizes of no preset: compare runs that were trained without"
        " --init, --text-length and --dropout"
    )


def storybook(run: TrainingRun) -> Storybook:
    """The world of a run that `open_run` found."""
    assert isinstance(run.source, Storybook)
    return run.source


def _recorded_storybook(file: Path) -> Storybook:
    """Raises MinidalleError where the file is damaged, or names another source."""
    try:
        name = str(json.loads(read_file(file))["source"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MinidalleError(
            f"{file} is damaged: delete it, and minidalle train --resume writes it again"
        ) from error
    if match := STORYBOOK.fullmatch(name):
        book = Storybook(int(match[1]), int(match[2]), bool(match[3]))
        if book.name == name:
            return book
    raise MinidalleError(
        f"{file.parent} is trained on {name}, which the judge cannot read: compare runs of the"
        " storybook"
    )
