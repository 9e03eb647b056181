"""The stages of the baselines: what each is built from, and what it is trained on.

A baseline is trained like the models of a bundle, `minidalle train masked`, on the same pictures
and captions and the same dVAE, but no bundle contains it.
"""

from dataclasses import replace

from minidalle.baselines.gan import GAN, GANConfig
from minidalle.training.objectives import gan_objective
from minidalle.training.stage import Inputs, Stage
from minidalle.training.trainer import Objective, TrainConfig


def _configure_gan(given: Inputs) -> GANConfig:
    assert given.tokenizer
    return replace(
        given.preset.models["gan"], vocab_size=given.tokenizer.vocab_size,
        image_size=given.source.size,
    )  # fmt: skip


def _gan_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer
    return gan_objective(given.source, given.tokenizer, config, given.device)


BASELINES: dict[str, Stage] = {
    "gan": Stage(
        needs=("tokenizer",), model=GAN, config=GANConfig, configure=_configure_gan,
        objective=_gan_objective,
    ),
}  # fmt: skip
