"""What each part of the prior's recipe is worth: `python -m tests.benchmarks.ablation RUN`

    python -m tests.benchmarks.ablation RUN                  all rows that are missing
    python -m tests.benchmarks.ablation RUN --trainings 1    the next one, and then stop

Each row leaves out one switch of `class` and trains its prior on the whole world, with the
tokenizer and the dVAE of the run directory RUN. All rows get the same CPU time: the time of an
update is measured first, for all rows in turn, and sets the number of updates. After each training
its row is written to data/reports/ablation.json, so the work can be stopped at any time and goes on
where it was.

Measured are the loss in nats per code on validation and on compositions, and on the first drawings
of single things of both splits the share that is right and the share of facts that are right.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from minidalle.datasets.source import bilingual_caption
from minidalle.datasets.views import HeldOut
from minidalle.dvae import DVAE
from minidalle.files import fingerprint, to_json, write_file
from minidalle.prior import Prior
from minidalle.training.presets import CLASS, Preset, preset
from minidalle.training.run import TrainingRun
from minidalle.training.stage import Inputs
from minidalle.training.stages import STAGES
from minidalle.training.trainer import Record, TrainConfig, TrainState, fit
from minidalle.world.storybook import Storybook
from tests.benchmarks.trials import begin, decode, draw, image_loss, missing, shares_right

OUT = Path(__file__).parents[2] / "data" / "reports" / "ablation.json"
BOOK, LONE, STAGE = Storybook(), Storybook(lone=True), STAGES["prior"]
MINUTES, PICTURES, CAPTIONS, TIMED = 20.0, 256, 100, 8
SAMPLING = CLASS.sampling
AT = 20_000  # the first held-out picture that is counted: those before it have chosen the recipe

PRIOR, TRAINING = CLASS.models["prior"], CLASS.training["prior"]


def _without(**changes: Any) -> Preset:
    return CLASS.with_model("prior", **changes)


def _optimized(**changes: Any) -> Preset:
    return CLASS.with_training("prior", **changes)


ROWS = {
    "the recipe": CLASS,
    "AdamW in place of Muon": replace(
        CLASS, training={**CLASS.training, "prior": replace(TRAINING, muon_lr=None)}
    ),
    "codes without their looks": _without(look_size=0),
    "learned positions": _without(rotary=False),
    "queries and keys as they are": _without(qk_norm=False),
    "no shades or mixtures": replace(CLASS, colour_jitter=0.0),
}


class Trial:
    """One prior of a row, about to be trained."""

    def __init__(self, preset: Preset, given: Inputs, steps: int, seed: int) -> None:
        self.given = given._replace(preset=preset)
        warmup_steps = max(1, steps // 20)
        self.config: TrainConfig = replace(
            preset.training["prior"], steps=steps, warmup_steps=warmup_steps, seed=seed
        )
        torch.manual_seed(seed)
        self.prior = Prior(STAGE.configure(self.given))
        assert STAGE.prepare
        STAGE.prepare(self.prior, self.given)
        self.state = TrainState.start(self.prior, self.config)

    def records(self) -> Iterator[Record]:
        return fit(self.state, STAGE.objective(self.given, self.config))


def seconds_per_update(given: Inputs) -> dict[str, float]:
    """CPU seconds of an update of each row: medians of updates made in turn."""
    trials = {name: Trial(preset, given, TIMED + 1, 0).records() for name, preset in ROWS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in trials}
    for _ in tqdm(range(TIMED + 1), "updates timed", leave=False):
        for name, records in trials.items():
            began = time.process_time()
            next(records)
            seconds[name].append(time.process_time() - began)
    return {name: round(statistics.median(s[1:]), 3) for name, s in seconds.items()}


def measure(prior: nn.Module, given: Inputs, captions: int) -> dict[str, Any]:
    """Of both held-out splits."""
    assert isinstance(prior, Prior)
    measured = {}
    for split in ("validation", "compositions"):
        asked = [bilingual_caption(LONE, split, AT + i) for i in range(captions)]
        images = decode(draw(prior, asked, given, SAMPLING), given)
        loss = image_loss(prior, HeldOut(BOOK, split), PICTURES, given)
        measured[split] = {"loss": round(loss, 4), **shares_right(images, asked)}
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ablation")
    parser.add_argument("run", type=Path, help="where tokenizer and dVAE were trained")
    parser.add_argument("--preset", default="full", help="of that run")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--trainings", type=int, default=10**6, help="then stop")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="CPU minutes per row")
    parser.add_argument("--captions", type=int, default=CAPTIONS)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    run = TrainingRun(preset(args.preset), BOOK, args.run)
    dvae = run.model("dvae")
    assert isinstance(dvae, DVAE)
    given = Inputs(BOOK, CLASS, torch.device("cpu"), run.tokenizer(), dvae)
    weights = dvae.prototypes.numpy().tobytes()
    settings = {
        "minutes": args.minutes, "batch_size": TRAINING.batch_size, "width": PRIOR.width,
        "layers": PRIOR.layers, "captions": args.captions, "pictures": PICTURES,
        "sampling": asdict(SAMPLING), "dvae": fingerprint(weights)["sha256"],
    }  # fmt: skip
    report = begin(args.out, settings)
    if "seconds_per_update" not in report:
        report["seconds_per_update"] = seconds_per_update(given)
        write_file(args.out, to_json(report))
    for _ in range(args.trainings):
        left = missing(report, list(ROWS), args.seeds)
        if not left:
            break
        seed, name = left[0]
        steps = max(2, round(60 * args.minutes / report["seconds_per_update"][name]))
        trial = Trial(ROWS[name], given, steps, seed)
        for _record in tqdm(trial.records(), name, steps, leave=False):
            pass
        row = {"row": name, "seed": seed, "steps": steps}
        row |= measure(trial.state.ema, given, args.captions)
        report["rows"].append(row)
        write_file(args.out, to_json(report))
        print(json.dumps(row), file=sys.stderr)


if __name__ == "__main__":
    main()
