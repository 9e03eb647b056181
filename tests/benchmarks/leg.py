"""Let a bundle's prior learn on: `python -m tests.benchmarks.leg OUT [--bundle DIR] [--seed N] …`.

As `minidalle train prior --preset full` trains it, but from what a bundle knows: first mostly in
shades of the colours, then in the colours themselves, on scenes that no leg of another seed has
shown. What it learns so of pairs that it never sees it pays for with a little of what it knew; the
mean with where it began (`python -m tests.benchmarks.mean`) gives that back.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from minidalle import MiniDALLE, Storybook, presets
from minidalle.prior import Prior
from minidalle.training.objectives import prior_objective
from minidalle.training.trainer import TrainConfig, TrainState, fit


def train(bundle: MiniDALLE, config: TrainConfig, shades: float) -> None:
    """Put a prior that has learnt further into a bundle: the running mean over its updates."""
    preset, shape = presets.preset("full"), bundle.prior.config
    prior = Prior(shape)
    prior.load_state_dict(bundle.prior.state_dict())
    state = TrainState.start(prior, config)
    losses = prior_objective(
        Storybook(bundle.dvae.config.image_size, seed=config.seed), bundle.dvae, bundle.tokenizer,
        config, bundle.device, length=shape.text_length, bpe_dropout=preset.bpe_dropout,
        caption_dropout=preset.caption_dropout, shades=shades,
    )  # fmt: skip
    bar = tqdm(fit(state, losses), total=config.steps, unit="update")
    for record in bar:
        bar.set_postfix(image=f"{record.losses['image']:.3f}", refresh=False)
    bundle.prior = state.ema


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.leg")
    parser.add_argument("out", type=Path, help="where the bundle with the new prior is written")
    parser.add_argument("--bundle", type=Path, help="where it begins; the one that ships")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--shades", type=float, default=0.7, help="share of the leg in shades")
    parser.add_argument("--seed", type=int, default=6, help="0 to 5 are those of former legs")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # of a batch of eight, a second one makes little
    model = MiniDALLE.load(asked.bundle, device="cpu")
    train_config = replace(
        presets.preset("full").training["prior"],
        steps=asked.steps,
        lr=asked.lr,
        ema=0.998,
        seed=asked.seed,
    )
    train(model, train_config, asked.shades)
    print(model.save(asked.out))
