"""Train a bundle's decoder alone: `python -m tests.benchmarks.decoder OUT [--steps N] [--lr RATE]`.

While a dVAE trains, its decoder sees mixtures of code vectors, and codes that still change their
meaning. What it is asked for in the end is one code a cell, the most probable. So here the encoder
is kept as it is, and decoder and code vectors learn from hard codes, by the likelihood alone. The
prior and CLIP need not learn anew: every code says what it said, and is painted better.

Half of what it sees are pages, half scenes of `train`; none of them has been trained on before.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from minidalle import MiniDALLE, Storybook
from minidalle.dvae import DVAE, logit_laplace_nll, min_b_at, to_unit
from minidalle.tensors import to_tensor
from minidalle.training.trainer import TrainConfig, TrainState, fit

UNSEEN = 5_000_000  # the first picture: those before are the other trainings'


class Losses(NamedTuple):
    nll: Tensor  # −ln p(x|z), mean over subpixels


def train(bundle: MiniDALLE, config: TrainConfig) -> None:
    """Put a decoder that has learnt further into a bundle."""
    book = Storybook(bundle.dvae.config.image_size)
    half, ln_least_b = config.batch_size // 2, math.log(min_b_at(1.0))

    def losses(dvae: DVAE, step: int, progress: float) -> Losses:
        dvae.encoder.eval()  # the running statistics of its last layer stand still too
        indices = range(UNSEEN + step * config.batch_size, UNSEEN + (step + 1) * config.batch_size)
        images = [book.crowded_image(i) for i in indices[:half]]
        images += [book.image("train", i) for i in indices[half:]]
        x = to_tensor(images, bundle.device)
        vectors = dvae.quantizer.embed(dvae.encode(x))
        mu, spread = dvae.decoder(vectors).float().chunk(2, dim=1)
        return Losses(logit_laplace_nll(to_unit(x), mu, ln_least_b + F.softplus(spread)).mean())

    dvae = bundle.dvae.requires_grad_(True)
    dvae.encoder.requires_grad_(False)
    state = TrainState.start(dvae, config)
    bar = tqdm(fit(state, losses), total=config.steps, unit="update")
    for record in bar:
        bar.set_postfix(nll=f"{record.losses['nll']:.3f}", refresh=False)
    bundle.dvae = state.ema


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.decoder")
    parser.add_argument("out", type=Path, help="where the bundle with the new decoder is written")
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--lr", type=float, default=6e-3)
    asked = parser.parse_args()
    model = MiniDALLE.load(device="cpu")
    train(model, TrainConfig(
        steps=asked.steps, batch_size=16, lr=asked.lr, betas=(0.9, 0.95), ema=0.998,
        weight_decay=0.0,
    ))  # fmt: skip
    print(model.save(asked.out))
