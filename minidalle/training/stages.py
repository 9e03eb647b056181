"""The table of stages: what each is, what it needs, and what it is trained on.

    tokenizer → dVAE → prior → CLIP

The prior reads the tokenizer's tokens and the dVAE's codes; CLIP is trained on pictures as the dVAE
reconstructs them. The tokenizer is trained by counting, without steps, and so is not in the table.
To add a model, write its row; the rows of the baselines are in `baseline_stages`.
"""

from dataclasses import replace
from functools import partial

from minidalle.clip import CLIP, CLIPConfig
from minidalle.dvae import DVAE, DVAEConfig
from minidalle.prior import Prior, PriorConfig
from minidalle.tensors import to_tensor
from minidalle.training.baseline_stages import BASELINES
from minidalle.training.config import TrainConfig
from minidalle.training.growing import grow_clip, grow_dvae, grow_prior
from minidalle.training.objectives import clip_objective, dvae_objective, prior_objective
from minidalle.training.stage import (
    Inputs,
    Stage,
    code_config,
    code_options,
    picture_config,
    set_looks,
)
from minidalle.training.trainer import Objective

MAX_K_MEANS_IMAGES = 2500  # in which the dVAE's prototypes are found: two per code, at most these


def _configure_dvae(given: Inputs) -> DVAEConfig:
    return replace(given.preset.models["dvae"], image_size=given.source.size)


def _configure_prior(given: Inputs) -> PriorConfig:
    return code_config(given, "prior")


def _prepare_dvae(model: DVAE, given: Inputs) -> None:
    if model.config.prototypes:
        n = min(MAX_K_MEANS_IMAGES, 2 * model.config.codes)
        images = [given.source.crowded_image(i) for i in range(n)]
        model.set_prototypes(to_tensor(images, given.device))


def _dvae_objective(given: Inputs, config: TrainConfig) -> Objective:
    return dvae_objective(given.source, config, given.device)


def _prior_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer and given.dvae
    return prior_objective(
        given.source, given.dvae, given.tokenizer, config, given.device,
        **code_options(given, "prior"),
    )  # fmt: skip


def _clip_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer and given.dvae
    return clip_objective(
        given.source, given.dvae, given.tokenizer, config, given.device,
        text_length=given.preset.models["clip"].text_length,
    )  # fmt: skip


BUNDLE_STAGES = {
    "dvae": Stage(
        needs=(), model=DVAE, config=DVAEConfig, configure=_configure_dvae,
        objective=_dvae_objective, prepare=_prepare_dvae, grow=grow_dvae,
    ),
    "prior": Stage(
        needs=("tokenizer", "dvae"), model=Prior, config=PriorConfig, configure=_configure_prior,
        objective=_prior_objective, prepare=set_looks, grow=grow_prior,
    ),
    "clip": Stage(
        needs=("tokenizer", "dvae"), model=CLIP, config=CLIPConfig,
        configure=partial(picture_config, name="clip"), objective=_clip_objective, grow=grow_clip,
        min_batch_size=2, distinct_captions=True,
    ),
}  # fmt: skip
STAGES = {**BUNDLE_STAGES, **BASELINES}
NAMES = ("tokenizer", *STAGES)  # in the order in which they are trained
