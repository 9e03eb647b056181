"""The stages of the baselines: what each is built from, and what it is trained on.

A baseline is trained like the models of a bundle, `minidalle train masked`, on the same pictures
and captions and the same dVAE, but no bundle contains it.
"""

from functools import partial

from minidalle.baselines.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from minidalle.baselines.masked import Masked, MaskedConfig
from minidalle.training.baseline_objectives import encoder_decoder_objective, masked_objective
from minidalle.training.objectives import CodeBatches, captioned_codes
from minidalle.training.stage import Inputs, Stage, code_config, code_options, set_looks
from minidalle.training.trainer import Objective, TrainConfig


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
}  # fmt: skip
