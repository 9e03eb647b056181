"""The stages of the baselines: what each is built from, and what it is trained on.

A baseline is trained like the models of a bundle, `minidalle train masked`, on the same pictures
and captions and the same dVAE, but no bundle contains it.
"""

from dataclasses import replace

import torch

from minidalle.baselines.unclip import UnCLIP, UnCLIPConfig
from minidalle.tensors import to_tensor
from minidalle.training.objectives import unclip_objective
from minidalle.training.stage import Inputs, Stage
from minidalle.training.trainer import Objective, TrainConfig

STATISTICS_IMAGES = 512  # whose CLIP vectors unCLIP is standardised by: deviations to 3 %


def _configure_unclip(given: Inputs) -> UnCLIPConfig:
    assert given.tokenizer and given.clip
    return replace(
        given.preset.models["unclip"], vocab_size=given.tokenizer.vocab_size,
        image_size=given.source.size, embedding=given.clip.config.embedding,
    )  # fmt: skip


@torch.no_grad()
def _prepare_unclip(model: UnCLIP, given: Inputs) -> None:
    assert given.clip
    source = given.source
    images = [source.training_image(i, colour_jitter=False) for i in range(STATISTICS_IMAGES)]
    model.set_vector_statistics(given.clip.encode_image(to_tensor(images, given.device)))


def _unclip_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer and given.clip
    return unclip_objective(
        given.source, given.clip, given.tokenizer, config, given.device,
        text_length=given.preset.models["unclip"].text_length,
    )  # fmt: skip


BASELINES: dict[str, Stage] = {
    "unclip": Stage(
        needs=("tokenizer", "clip"), model=UnCLIP, config=UnCLIPConfig,
        configure=_configure_unclip, objective=_unclip_objective, prepare=_prepare_unclip,
    ),
}  # fmt: skip
