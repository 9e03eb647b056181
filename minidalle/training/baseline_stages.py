"""The stages of the baselines: what each is built from, and what it is trained on.

A baseline is trained like the models of a bundle, `minidalle train masked`, on the same pictures
and captions and the same dVAE, but no bundle contains it.
"""

from minidalle.baselines.masked import Masked, MaskedConfig
from minidalle.training.objectives import masked_objective
from minidalle.training.stage import (
    Inputs,
    Stage,
    batch_choices,
    configure_codes,
    prepare_looks,
)
from minidalle.training.trainer import Objective, TrainConfig


def _masked_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer and given.dvae
    return masked_objective(
        given.source, given.dvae, given.tokenizer, config, given.device,
        **batch_choices("masked", given.preset),
    )  # fmt: skip


BASELINES: dict[str, Stage] = {
    "masked": Stage(
        needs=("tokenizer", "dvae"), model=Masked, config=MaskedConfig,
        configure=configure_codes("masked"), objective=_masked_objective, prepare=prepare_looks,
    ),
}  # fmt: skip
