"""What a biased collection and a repeated name do to a model, for chapter 20, and what helps.

    python -m tests.benchmarks.bias                 all rows that are missing, three seeds
    python -m tests.benchmarks.bias --trainings 1   the next one, and then stop
    python -m tests.benchmarks.bias --list          what is done and what is missing

The bundle's prior is fine-tuned on the storybook, and mixed into it a collection of 400 pictures of
cars on the grass (`PlantedBias`); four made-up names are inserted (`Inserted`). A row of the table
changes one thing. After each training its row is written to data/reports/bias.json, so the work can
be stopped at any time and goes on where it was. A row takes less than ten minutes on one core.

Measured are the colours of "a car on the grass" at three temperatures: the share of each, the
total variation from equal shares, and the readable drawings; the cars that a caption with another
colour gives; exposures of the names, in bits of at most 10; the nearest picture of the collection
(share of equal codes; beside it that of fresh pictures of cars); and the share right of validation
captions.
"""

import argparse
import copy
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from minidalle.bundle import default_bundle
from minidalle.datasets.planted import Inserted, PlantedBias, balanced_weights
from minidalle.datasets.source import Source
from minidalle.datasets.views import Augmented
from minidalle.evaluation.audit import (
    caption_nats,
    colours_of,
    exposure,
    shares_of,
    total_variation,
)
from minidalle.evaluation.pictures import nearest_codes
from minidalle.files import fingerprint, read_file, to_json, write_file
from minidalle.pipeline import MiniDALLE
from minidalle.sampling import SamplingConfig
from minidalle.tensors import to_tensor, to_uint8
from minidalle.training.presets import FINETUNE
from minidalle.training.stage import Inputs
from minidalle.training.stages import STAGES
from minidalle.training.trainer import TrainState, fit
from minidalle.world import judge
from minidalle.world.scenes import SEEN_COLOURS
from minidalle.world.storybook import Storybook

OUT = Path(__file__).parents[2] / "data" / "reports" / "bias.json"
CPU, BOOK, STAGE = torch.device("cpu"), Storybook(), STAGES["prior"]
STEPS, BATCH, LR, SEEDS = 200, 8, 1e-3, (0, 1, 2)
ASKED, TEMPERATURES = "a car on the grass", (1.0, 0.85, 0.7)
DRAWINGS, CAPTIONS, CHUNK = 96, 48, 32
CARS = SEEN_COLOURS["car"]
STATED = [f"a {colour} car on the grass" for colour in CARS if colour != "green"]
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "mo", "ne", "pi", "ra")
NAMES = ["".join(parts) for parts in product(SYLLABLES, repeat=3)]
CANARY = "a car on the grass by {}"
TIMES = {"bafigo": 1, "mokula": 4, "nepira": 16, "kudemo": 64}  # how often each name is seen


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one row of the table changes."""

    trained: bool = True  # False: the bundle as it ships
    share: float = 0.9  # of the collection that is green
    balanced: bool = False
    augmented: bool = False
    deduplicated: bool = False  # each name is seen once

    def source(self, steps: int) -> Source:
        weights = None
        collection = PlantedBias(BOOK, share=self.share)
        if self.balanced:
            weights = balanced_weights(collection.colours())
        source: Source = replace(collection, weights=weights)
        if self.augmented:
            source = Augmented(source)
        times = dict.fromkeys(TIMES, 1) if self.deduplicated else TIMES
        captions = [CANARY.format(name) for name, k in times.items() for _ in range(k)]
        return Inserted(source, tuple(captions), span=steps * BATCH)


ROWS = {
    "the bundle": Row(trained=False),
    "equal colours": Row(share=0.1),
    "half green": Row(share=0.5),
    "nine in ten green": Row(),
    "balanced": Row(balanced=True),
    "balanced, augmented": Row(balanced=True, augmented=True),
    "names once": Row(deduplicated=True),
}


def train(row: Row, model: MiniDALLE, steps: int, seed: int) -> MiniDALLE:
    """A copy of the bundle with its prior fine-tuned."""
    prior = copy.deepcopy(model.prior).requires_grad_(True)
    if row.trained:
        preset = FINETUNE.with_model("prior", text_length=prior.config.text_length)
        preset = replace(preset, colour_jitter=0.0)
        config = replace(
            preset.training["prior"], steps=steps, batch_size=BATCH, lr=LR, seed=seed,
            warmup_steps=max(1, steps // 10), validate_every=0, patience=0,
        )  # fmt: skip
        given = Inputs(row.source(steps), preset, CPU, model.tokenizer, model.dvae)
        state = TrainState.start(prior, config)
        for _ in tqdm(fit(state, STAGE.objective(given, config)), total=steps, leave=False):
            pass
    return MiniDALLE(model.tokenizer, model.dvae, prior, model.clip, model.info, "cpu")


def draw(
    model: MiniDALLE, caption: str, n: int, temperature: float | None = None
) -> tuple[torch.Tensor, Any]:
    """Codes, n N, and pictures of n drawings, at the bundle's temperature or another one."""
    sampling = model.sampling if temperature is None else SamplingConfig(temperature=temperature)
    parts = [
        model.candidates(caption, min(CHUNK, n - start), start // CHUNK, sampling)
        for start in range(0, n, CHUNK)
    ]
    return torch.cat([p[0] for p in parts]), to_uint8(torch.cat([p[1] for p in parts]))


def measure(row: Row, model: MiniDALLE, drawings: int, captions: int) -> dict[str, Any]:
    equal = dict.fromkeys(CARS, 1 / len(CARS))
    report: dict[str, Any] = {"colours": {}}
    for temperature in TEMPERATURES:
        codes, images = draw(model, ASKED, drawings, temperature)
        found = colours_of(images, "car")
        shares = shares_of([c for c in found if c], CARS)
        report["colours"][str(temperature)] = {
            "shares": {name: round(share, 4) for name, share in shares.items()},
            "total_variation": round(total_variation(shares, equal), 4),
            "readable": round(1 - found.count(None) / len(found), 4),
        }
        if temperature == TEMPERATURES[0]:
            report["shared_codes"] = round(_shared(row, model, codes), 4)
    right = [
        judge.score(draw(model, caption, 1)[1][0], caption).right
        for caption in (STATED * 10)[: captions // 2]
    ]
    report["stated_colours_right"] = round(sum(right) / len(right), 4)
    nats = caption_nats(model.prior, model.tokenizer, [CANARY.format(name) for name in NAMES])
    report["exposure"] = {name: round(exposure(nats, NAMES.index(name)), 2) for name in TIMES}
    asked = [BOOK.caption("validation", i) for i in range(captions)]
    right = [judge.score(draw(model, c, 1)[1][0], c).right for c in asked]
    report["right"] = round(sum(right) / captions, 4)
    return report


@torch.no_grad()
def _shared(row: Row, model: MiniDALLE, codes: torch.Tensor) -> float:
    """The share of codes that a drawing has in common with the nearest of the collection."""
    view = PlantedBias(BOOK, share=row.share)
    images = [view.collection_image(j) for j in range(view.things)]
    known = torch.cat([
        model.dvae.encode(to_tensor(images[k : k + 100], CPU)).flatten(1)
        for k in range(0, len(images), 100)
    ])  # fmt: skip
    return nearest_codes(codes, known)[0].mean().item()


def fresh(model: MiniDALLE) -> float:
    """The same of fresh pictures of cars on the grass: what is nearer is a copy."""
    other = PlantedBias(BOOK, share=0.1, seed=1)
    images = to_tensor([other.collection_image(j) for j in range(64)], CPU)
    with torch.no_grad():
        return round(_shared(Row(), model, model.dvae.encode(images).flatten(1)), 4)


# --- The report -----------------------------------------------------------------------------------


def begin(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The report so far. Raises SystemExit where it belongs to another bundle or other settings."""
    if not out.exists():
        return {"settings": settings, "rows": []}
    report = json.loads(out.read_text(encoding="utf-8"))
    if report["settings"] != settings:
        raise SystemExit(f"{out} has other settings or another bundle: move it away")
    return report


def missing(report: dict[str, Any], names: list[str], seeds: list[int]) -> list[tuple[int, str]]:
    """Seed by seed, so that the whole table is there early, with one seed."""
    done = {(row["seed"], row["row"]) for row in report["rows"]}
    return [pair for pair in product(seeds, names) if pair not in done]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bias")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--trainings", type=int, default=10**6, help="then stop")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--drawings", type=int, default=DRAWINGS)
    parser.add_argument("--captions", type=int, default=CAPTIONS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    settings = {
        "steps": args.steps, "batch_size": BATCH, "lr": LR, "asked": ASKED, "canary": CANARY,
        "times": TIMES, "names": len(NAMES), "drawings": args.drawings, "captions": args.captions,
        "prior": fingerprint(read_file(default_bundle() / "prior.safetensors"))["sha256"],
    }  # fmt: skip
    report = begin(args.out, settings)
    left = missing(report, args.rows, args.seeds)
    if args.list:
        print("\n".join(f"missing: seed {seed}, {name}" for seed, name in left))
        return
    model = MiniDALLE.load(device="cpu")
    report["fresh_shared_codes"] = fresh(model)
    for seed, name in left[: args.trainings]:
        began = time.monotonic()
        tuned = train(ROWS[name], model, args.steps, seed)
        measured = measure(ROWS[name], tuned, args.drawings, args.captions)
        minutes = round((time.monotonic() - began) / 60, 1)
        plain = asdict(Row())
        changed = {k: v for k, v in asdict(ROWS[name]).items() if v != plain[k]}
        report["rows"].append(
            {"row": name, "seed": seed, **measured, "minutes": minutes, "changed": changed}
        )
        print(f"seed {seed}, {name}: {json.dumps(measured)}", file=sys.stderr)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_file(args.out, to_json(report))


if __name__ == "__main__":
    main()
