"""What each cure of over-fitting is worth, for chapter 15: `python -m tests.benchmarks.overfitting`

    python -m tests.benchmarks.overfitting                 all rows that are missing, three seeds
    python -m tests.benchmarks.overfitting --trainings 1   the next one, and then stop
    python -m tests.benchmarks.overfitting --list          what is done and what is missing

A small prior, half as wide as that of `class`, is trained on the first 200 training pictures of the
storybook: tokenizer, dVAE and CLIP are the bundle's. A row of the table changes one switch. After
each training its rows are written to data/reports/overfitting.json, so the work can be stopped at
any time and goes on where it was. A training takes less than ten minutes on one core.

Measured are, on the first 200 training pictures and on 256 validation pictures, the loss in nats
per code, and their difference, the gap; and on the first drawings of 100 validation captions the
share that is right in all facts, the share of facts that are right, and the nearest training
picture: its share of equal codes, and its distance in CLIP's features.
"""

import argparse
import copy
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minidalle.bundle import default_bundle
from minidalle.datasets.source import Source, bilingual_caption
from minidalle.datasets.views import Augmented, HeldOut, Limited
from minidalle.evaluation.pictures import image_features, nearest, nearest_codes
from minidalle.files import fingerprint, read_file, to_json, write_file
from minidalle.pipeline import MiniDALLE
from minidalle.prior import Prior
from minidalle.tensors import to_tensor
from minidalle.training.early_stopping import EarlyStopping, validation_loss
from minidalle.training.presets import CLASS, Preset
from minidalle.training.stage import Inputs
from minidalle.training.stages import STAGES
from minidalle.training.trainer import TrainConfig, TrainState, fit
from minidalle.world.storybook import Storybook
from tests.benchmarks.trials import begin, decode, draw, image_loss, missing, shares_right

OUT = Path(__file__).parents[2] / "data" / "reports" / "overfitting.json"
CPU, BOOK, STAGE = torch.device("cpu"), Storybook(), STAGES["prior"]
STEPS, BATCH, WIDTH, LAYERS, LOOKS = 1200, 8, 64, 4, 24
PICTURES, CAPTIONS, VALIDATION, SEEDS = 200, 100, 256, (0, 1, 2)
PROMPTS = [  # of the drawings that the report keeps; written before the first look
    "a red apple on the grass",
    "a yellow star at night",
    "a blue boat by the sea",
    "a brown bear in the snow",
    "two green trees on the road",
    "a white rabbit to the left of a pink flower",
    "夜里，一只黑色的猫",
    "沙滩上有三颗橙色的球",
]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The switches of one row of the table; the defaults are those of a training without cures."""

    pictures: int | None = PICTURES  # None: the endless storybook
    width: int = WIDTH  # of the prior
    augmented: bool = False
    weight_decay: float = 0.0
    dropout: float = 0.0
    bpe_dropout: float = 0.0
    caption_dropout: float = 0.0
    sampled_codes: bool = False
    weights: str = "last"  # of the training: last, ema, or best (of the looks at the EMA)

    @property
    def training(self) -> "Row":
        """What is trained: rows that differ in `weights` alone come from one training."""
        return replace(self, weights="last")

    def source(self) -> Source:
        source: Source = BOOK if self.pictures is None else Limited(BOOK, self.pictures)
        return Augmented(source) if self.augmented else source

    def preset(self) -> Preset:
        plain = CLASS.without_dropout()
        plain = plain.with_model("prior", width=self.width, layers=LAYERS, dropout=self.dropout)
        return replace(
            plain, bpe_dropout=self.bpe_dropout, caption_dropout=self.caption_dropout,
            sampled_codes=self.sampled_codes,
        )  # fmt: skip

    def config(self, steps: int, seed: int) -> TrainConfig:
        return replace(
            CLASS.training["prior"], steps=steps, warmup_steps=max(1, steps // 20),
            batch_size=BATCH, weight_decay=self.weight_decay, seed=seed,
            validate_every=max(1, steps // LOOKS),
        )  # fmt: skip


ALL = Row(
    augmented=True, weight_decay=0.1, dropout=0.1, bpe_dropout=0.1, caption_dropout=0.1,
    sampled_codes=True, weights="best",
)  # fmt: skip
ROWS = {
    "no cure": Row(),
    "EMA": Row(weights="ema"),
    "early stopping": Row(weights="best"),
    "augmentation": Row(augmented=True),
    "weight decay": Row(weight_decay=0.1),
    "dropout": Row(dropout=0.1),
    "BPE dropout": Row(bpe_dropout=0.1),
    "caption dropout": Row(caption_dropout=0.1),
    "sampled codes": Row(sampled_codes=True),
    "half the width": Row(width=WIDTH // 2),
    "all but more data": ALL,
    "1,000 pictures": Row(pictures=1000),
    "endless pictures": Row(pictures=None),
}
DRAWN = ("no cure", "all but more data", "endless pictures")  # their drawings are kept


def inputs(model: MiniDALLE) -> Inputs:
    return Inputs(BOOK, CLASS, CPU, model.tokenizer, model.dvae)


# --- One training ---------------------------------------------------------------------------------


def train(row: Row, model: MiniDALLE, steps: int, seed: int) -> dict[str, Any]:
    """Weights by name (`Row.weights`), and the update at which the validation loss was lowest."""
    given = inputs(model)._replace(source=row.source(), preset=row.preset())
    config = row.config(steps, seed)
    torch.manual_seed(seed)
    prior = Prior(STAGE.configure(given))
    assert STAGE.prepare
    STAGE.prepare(prior, given)
    state = TrainState.start(prior, config)
    stopping = EarlyStopping(validation_loss(STAGE, given, config), config)
    for record in tqdm(fit(state, STAGE.objective(given, config)), total=steps, leave=False):
        stopping.look(record, state.ema)
    best = copy.deepcopy(state.ema)
    best.load_state_dict(stopping.best)
    return {"last": state.model, "ema": state.ema, "best": best, "best_step": stopping.best_step}


# --- Measures -------------------------------------------------------------------------------------


class Training:
    """The 200 training pictures: their codes and CLIP's features of them."""

    def __init__(self, model: MiniDALLE) -> None:
        images = [BOOK.training_image(i, colour_jitter=False) for i in range(PICTURES)]
        with torch.no_grad():
            self.codes = model.dvae.encode(to_tensor(images, CPU)).flatten(1)
            self.features = image_features(model, list(decode(self.codes, inputs(model))))

    @torch.no_grad()
    def nearness(self, codes: Tensor, model: MiniDALLE) -> dict[str, float]:
        """Of the nearest training picture, means over pictures."""
        features = image_features(model, list(decode(codes, inputs(model))))
        return {
            "shared_codes": round(nearest_codes(codes, self.codes)[0].mean().item(), 4),
            "clip_distance": round(nearest(features, self.features)[0].mean().item(), 4),
        }


def measure(prior: Prior, model: MiniDALLE, training: Training, captions: int) -> dict[str, Any]:
    prior.eval()
    asked = [bilingual_caption(BOOK, "validation", i) for i in range(captions)]
    given = inputs(model)
    codes = draw(prior, asked, given, model.sampling)
    seen = image_loss(prior, Limited(BOOK, PICTURES), PICTURES, given)
    held_out = image_loss(prior, HeldOut(BOOK), VALIDATION, given)
    return {
        "training_loss": round(seen, 4),
        "validation_loss": round(held_out, 4),
        "gap": round(held_out - seen, 4),
        **shares_right(decode(codes, given), asked),
        **training.nearness(codes, model),
    }


def control(model: MiniDALLE, training: Training, captions: int) -> dict[str, float]:
    """How near real pictures are that no training has seen: what is nearer is a copy."""
    images = [BOOK.image("validation", i) for i in range(captions)]
    with torch.no_grad():
        codes = model.dvae.encode(to_tensor(images, CPU)).flatten(1)
    return training.nearness(codes, model)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.overfitting")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--trainings", type=int, default=10**6, help="then stop")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--captions", type=int, default=CAPTIONS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    settings = {
        "steps": args.steps, "batch_size": BATCH, "width": WIDTH, "layers": LAYERS,
        "pictures": PICTURES, "captions": args.captions, "validation": VALIDATION,
        "dvae": fingerprint(read_file(default_bundle() / "dvae.safetensors"))["sha256"],
        "prompts": PROMPTS,
    }  # fmt: skip
    report = begin(args.out, settings)
    if args.list:
        print(
            "\n".join(f"missing: seed {s}, {n}" for s, n in missing(report, args.rows, args.seeds))
        )
        return
    model = MiniDALLE.load(device="cpu")
    training = Training(model)
    report["new_pictures"] = control(model, training, args.captions)
    for _ in range(args.trainings):
        left = missing(report, args.rows, args.seeds)
        if not left:
            break
        seed, first = left[0]
        began = time.monotonic()
        trained = train(ROWS[first].training, model, args.steps, seed)
        minutes = round((time.monotonic() - began) / 60, 1)
        alike = [n for s, n in left if s == seed and ROWS[n].training == ROWS[first].training]
        for name in alike:
            prior = trained[ROWS[name].weights]
            measured = measure(prior, model, training, args.captions)
            plain = asdict(Row())
            changed = {k: v for k, v in asdict(ROWS[name]).items() if v != plain[k]}
            report["rows"].append(
                {"row": name, "seed": seed, **measured, "best_step": trained["best_step"],
                 "minutes": minutes, "switches": changed}
            )  # fmt: skip
            if name in DRAWN and seed == SEEDS[0]:
                codes = draw(prior, PROMPTS, inputs(model), model.sampling)
                report["drawings"][name] = codes.tolist()
            print(f"seed {seed}, {name}: {json.dumps(measured)}", file=sys.stderr)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_file(args.out, to_json(report))


if __name__ == "__main__":
    main()
