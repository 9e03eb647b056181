"""What the diagrams show as examples: pictures of captions, and a dVAE small enough to build here.

The pictures are the storybook's, and the codes are a real dVAE's, so no diagram invents them.
"""

import random
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from matplotlib.colors import to_hex

from minidalle.bundle import default_bundle
from minidalle.dvae import DVAE, DVAEConfig
from minidalle.tensors import to_tensor
from minidalle.tokenizer import Tokenizer
from minidalle.world.captions import parse
from minidalle.world.scenes import lay_out, render
from minidalle.world.storybook import Storybook


@cache
def picture_of(caption: str, seed: int = 0, size: int = 48) -> np.ndarray:
    """A picture of a caption of the storybook: uint8, size × size × 3."""
    return render(lay_out(parse(caption), random.Random(seed)), size)


@cache
def tokenizer() -> Tokenizer:
    """The tokenizer of the bundle."""
    return Tokenizer.load(default_bundle() / "tokenizer.json")


@cache
def prototype_dvae(config: DVAEConfig) -> DVAE:
    """A dVAE with the grid and the codebook of `config`, whose codes are the k-means of squares.
    Its decoder is small, and not trained."""
    f = config.factor
    small = replace(
        config, patch=f, widths=(8,), blocks=1, prototypes=True, quantizer="gumbel",
        code_width=3 * f * f,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # a diagram must not move the reader's random numbers
        torch.manual_seed(0)
        dvae = DVAE(small).eval()
    book = Storybook(config.image_size)
    images = [book.image("train", i) for i in range(48)]
    dvae.set_prototypes(to_tensor(images, torch.device("cpu")))
    return dvae


def prototypes(dvae: DVAE) -> np.ndarray:
    """What each code looks like on its own: K f f 3 in [0, 1]."""
    f = dvae.config.factor
    looks = dvae.prototypes.reshape(-1, 3, f, f)
    return ((looks.movedim(1, -1) + 1) / 2).clamp(0, 1).numpy()


def encode(dvae: DVAE, image: np.ndarray) -> np.ndarray:
    """The codes of one picture, h w."""
    return dvae.encode(to_tensor([image], torch.device("cpu")))[0].numpy()


def code_colours(image: np.ndarray, config: DVAEConfig) -> list[list[str]]:
    """A colour for each code of a picture: the mean of its prototype."""
    dvae = prototype_dvae(config)
    means = prototypes(dvae).mean((1, 2))
    return [[to_hex(means[k]) for k in row] for row in encode(dvae, image)]
