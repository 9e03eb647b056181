"""The stages of the baselines: what each is built from, and what it is trained on.

A baseline is trained like the models of a bundle, `minidalle train masked`, on the same pictures
and captions and the same dVAE, but no bundle contains it.
"""

from dataclasses import replace
from functools import partial

import torch

from minidalle.baselines.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from minidalle.baselines.gan import GAN, GANConfig
from minidalle.baselines.masked import Masked, MaskedConfig
from minidalle.baselines.unclip import UnCLIP, UnCLIPConfig
from minidalle.tensors import to_tensor
from minidalle.training.baseline_objectives import (
    encoder_decoder_objective,
    gan_objective,
    masked_objective,
    unclip_objective,
)
from minidalle.training.config import TrainConfig
from minidalle.training.objectives import CodeBatches, captioned_codes
from minidalle.training.stage import (
    Inputs,
    Stage,
    code_config,
    code_options,
    picture_config,
    set_looks,
)
from minidalle.training.trainer import Objective

STATISTICS_IMAGES = 512  # whose CLIP vectors unCLIP is standardised by: deviations to 3 %


def _batches(given: Inputs, config: TrainConfig, name: str) -> CodeBatches:
    assert given.tokenizer and given.dvae
    options = code_options(given, name)
    return captioned_codes(
        given.source, given.dvae, given.tokenizer, config, given.device, **options
    )


def _encoder_decoder_objective(given: Inputs, config: TrainConfig) -> Objective:
    return encoder_decoder_objective(_batches(given, config, "encoder_decoder"))


def _masked_objective(given: Inputs, config: TrainConfig) -> Objective:
    return masked_objective(_batches(given, config, "masked"), config, given.device)


def _gan_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer
    return gan_objective(given.source, given.tokenizer, config, given.device)


def _configure_unclip(given: Inputs) -> UnCLIPConfig:
    assert given.clip
    config: UnCLIPConfig = picture_config(given, "unclip")
    return replace(config, embedding=given.clip.config.embedding)


@torch.no_grad()
def _prepare_unclip(model: UnCLIP, given: Inputs) -> None:
    assert given.clip
    source = given.source
    images = [source.training_image(i, colour_jitter=False) for i in range(STATISTICS_IMAGES)]
    model.set_vector_statistics(given.clip.encode_image(to_tensor(images, given.device)))


def _unclip_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer and given.clip
    return unclip_objective(given.source, given.clip, given.tokenizer, config, given.device)


BASELINES = {
    "encoder_decoder": Stage(
        needs=("tokenizer", "dvae"), model=EncoderDecoder, config=EncoderDecoderConfig,
        configure=partial(code_config, name="encoder_decoder"),
        objective=_encoder_decoder_objective, prepare=set_looks,
    ),
    "masked": Stage(
        needs=("tokenizer", "dvae"), model=Masked, config=MaskedConfig,
        configure=partial(code_config, name="masked"),
        objective=_masked_objective, prepare=set_looks,
    ),
    "gan": Stage(
        needs=("tokenizer",), model=GAN, config=GANConfig,
        configure=partial(picture_config, name="gan"), objective=_gan_objective,
    ),
    "unclip": Stage(
        needs=("tokenizer", "clip"), model=UnCLIP, config=UnCLIPConfig,
        configure=_configure_unclip, objective=_unclip_objective, prepare=_prepare_unclip,
    ),
}  # fmt: skip
