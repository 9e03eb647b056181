"""How well pictures are edited, repaired and described, for chapter 13.

    python -m tests.benchmarks.editing              all rows that are missing
    python -m tests.benchmarks.editing --rows 1     the next one, and then stop
    python -m tests.benchmarks.editing --list       what is done and what is missing

Each row counts scenes of validation. After each row its shares are written to
data/reports/editing.json, so the work can be stopped at any time and goes on where it was.

An edit changes one fact of one thing: its colour or its kind, chosen by chance. The region is where
the judge finds the thing, and all captions state all facts. Of 16 candidates the first, the one
with the heaviest weight and CLIP's choice are judged: the fact that was to change, the facts that
were to stay, and all of them. A repair gets noise, or scratches and a missing square. A description
is right when every fact in it holds.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from minidalle.bundle import default_bundle
from minidalle.clip import rerank
from minidalle.describing import describe_picture
from minidalle.editing import MIN_SIGMA, as_input, edit, estimate_noise, observe, repair
from minidalle.errors import MinidalleError
from minidalle.files import fingerprint, read_file, to_json, write_file
from minidalle.pipeline import MiniDALLE
from minidalle.tensors import to_tensor, to_uint8
from minidalle.world import judge
from minidalle.world.captions import phrase
from minidalle.world.facts import STATED_SIZES, Facts, Thing, mutations
from minidalle.world.finding import find_thing
from minidalle.world.scenes import complete, lay_out, split_of
from minidalle.world.storybook import Storybook
from tests.benchmarks.trials import begin, missing

OUT = Path(__file__).parents[2] / "data" / "reports" / "editing.json"
BOOK, SPLIT, EDITED, REPAIRED, CANDIDATES = Storybook(), "validation", 200, 100, 16
Shares = dict[str, float]
# Of the fact that was to change and the facts that were to stay, what is counted.
VERDICTS: dict[str, Callable[[bool, bool], bool]] = {
    "changed": lambda changed, kept: changed,
    "kept": lambda changed, kept: kept,
    "all": lambda changed, kept: changed and kept,
}


class Edit(NamedTuple):
    """A scene of the world, the thing in it that is to change, and the facts afterwards."""

    index: int
    thing: Thing
    after: Facts


def edits(field: str) -> Iterator[Edit]:
    """Scenes with one fact of one thing changed. A new pair of kind and colour is never a held-out
    one, since composition is measured elsewhere; groups have no single thing to point at."""
    for index in count():
        scene, rng = BOOK.scene(SPLIT, index), random.Random(f"{field} {index}")
        before, split = scene.facts, split_of(scene)
        if before.is_group:
            continue
        others = [facts for changed, facts in mutations(before) if changed == field]
        for after in rng.sample(others, len(others)):
            if split_of(lay_out(complete(after, rng), rng)) == split:
                pairs = zip(before.things, after.things, strict=True)
                yield Edit(index, next(old for old, new in pairs if old != new), after)
                break


def said(facts: Facts) -> str:
    """A caption that states all that captions can."""
    is_lone = len(facts.things) == 1
    things = tuple(
        replace(t, size=t.size if is_lone and t.size in STATED_SIZES else None)
        for t in facts.things
    )
    return phrase(replace(facts, things=things), "en", random.Random(0))


def edited(model: MiniDALLE, field: str) -> Shares:
    """Shares of edits: the changed fact, the others, and all, for three ways to choose."""
    rows: dict[str, list[tuple[bool, bool]]] = {"first": [], "heaviest": [], "by CLIP": []}
    for task in tqdm(list(islice(edits(field), EDITED)), field):
        image, caption = BOOK.image(SPLIT, task.index), said(task.after)
        try:
            region = find_thing(image, f"the {task.thing.colour} {task.thing.kind}")
        except MinidalleError:  # the judge cannot read the original: an edit that fails
            for found in rows.values():
                found.append((False, False))
            continue
        ranked = edit(model, image, caption, region, CANDIDATES, CANDIDATES, task.index)
        seen = to_tensor(ranked.images, model.device)
        chosen = {
            "first": int(ranked.order.argmin()),
            "heaviest": 0,
            "by CLIP": int(rerank(model.clip, seen, model.text_for_clip(caption))[0][0]),
        }
        for name, i in chosen.items():
            facts = judge.score(ranked.images[i], caption).facts
            kept = [holds for fact, holds in facts.items() if fact != field]
            rows[name].append((facts[field], all(kept)))
    return {
        f"{name}, {what}": mean(verdict(*pair) for pair in pairs)
        for name, pairs in rows.items()
        for what, verdict in VERDICTS.items()
    }


def damage(image: np.ndarray, noise: float, scratched: bool, seed: int) -> tuple[np.ndarray, ...]:
    """A damaged copy, and where it is whole: uint8 S S 3 and bool S S."""
    rng, whole = np.random.default_rng(seed), np.ones(image.shape[:2], bool)
    size = len(image)
    if scratched:
        across = np.arange(size)
        for _ in range(4):
            y = np.round(rng.uniform(0, size) + rng.uniform(-1, 1) * (across - size / 2)).astype(
                int
            )
            for dy in (0, 1):
                inside = (y + dy >= 0) & (y + dy < size)
                whole[y[inside] + dy, across[inside]] = False
        x, y = rng.integers(0, size - 12, 2)
        whole[y : y + 12, x : x + 12] = False
    noisy = np.clip(image / 255 + noise * rng.standard_normal(image.shape), 0, 1)
    damaged = np.where(whole[..., None], np.round(255 * noisy), 255).astype(np.uint8)
    return damaged, whole


def repaired(model: MiniDALLE, noise: float, scratched: bool) -> Shares:
    """Shares of pictures with all facts right: damaged, and after four repairs."""
    looks, grid = model.dvae.looks(), model.dvae.config.grid
    found: dict[str, list[bool]] = {}
    for index in tqdm(range(REPAIRED), f"noise {noise}, scratched {scratched}"):
        facts, original = BOOK.scene(SPLIT, index).facts, BOOK.image(SPLIT, index)
        damaged, whole = damage(original, noise, scratched, index)
        x, visible = as_input(model, damaged), torch.from_numpy(whole)
        holes = None if whole.all() else whole
        sigma = max(MIN_SIGMA, estimate_noise(model.dvae, x[0], visible, looks))
        likely = observe(model.dvae, x[0], sigma, visible, looks).argmax(1).view(1, grid, grid)
        images = {
            "damaged": damaged,
            "round trip": to_uint8(model.dvae.decode(model.dvae.encode(x)))[0],
            "likelihood alone": to_uint8(model.dvae.decode(likely))[0],
        }
        for name, caption in (("prior", ""), ("prior and caption", said(facts))):
            images[name] = repair(model, damaged, caption, visible=holes,
                                  seed=index).images[0]  # fmt: skip
        for name, image in images.items():
            found.setdefault(name, []).append(judge.score(image, facts).right)
    return {name: mean(right) for name, right in found.items()}


def described(model: MiniDALLE) -> Shares:
    """The share of pictures whose description is right in all facts."""
    right = []
    for index in tqdm(range(EDITED), "describe"):
        facts = describe_picture(model, BOOK.image(SPLIT, index))[1]
        right.append(judge.holds(facts, BOOK.scene(SPLIT, index).facts).right)
    return {"all facts right": mean(right)}


ROWS: dict[str, Callable[[MiniDALLE], Shares]] = {
    "another colour": lambda model: edited(model, "colour"),
    "another kind": lambda model: edited(model, "kind"),
    "noise 0.1": lambda model: repaired(model, 0.1, False),
    "noise 0.2": lambda model: repaired(model, 0.2, False),
    "noise 0.3": lambda model: repaired(model, 0.3, False),
    "scratches and a square": lambda model: repaired(model, 0.0, True),
    "scratches, a square, noise 0.1": lambda model: repaired(model, 0.1, True),
    "description": described,
}


def mean(values: Iterable[bool]) -> float:
    listed = list(values)
    return round(sum(listed) / len(listed), 4)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.editing")
    parser.add_argument("--rows", type=int, help="how many rows, then stop (all)")
    parser.add_argument("--list", action="store_true", help="what is done and what is missing")
    options = parser.parse_args()
    settings = {
        "bundle": fingerprint(read_file(default_bundle() / "manifest.json"))["sha256"],
        "edited": EDITED, "repaired": REPAIRED, "candidates": CANDIDATES,
    }  # fmt: skip
    report = begin(OUT, settings)
    todo = [name for _, name in missing(report, list(ROWS), [0])]
    if options.list:
        print(json.dumps({"done": [r["row"] for r in report["rows"]], "missing": todo}, indent=2))
        return
    model = MiniDALLE.load(device="cpu")
    for name in todo[: options.rows]:
        report["rows"].append({"row": name, "seed": 0, **ROWS[name](model)})
        write_file(OUT, to_json(report))
        print(report["rows"][-1], file=sys.stderr)


if __name__ == "__main__":
    main()
