"""The stages of the baselines: what each is built from, and what it is trained on.

A baseline is trained like the models of a bundle, `minidalle train masked`, on the same pictures
and captions and the same dVAE, but no bundle contains it.
"""

from minidalle.baselines.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from minidalle.training.objectives import captioned_codes, encoder_decoder_objective
from minidalle.training.stage import Inputs, Stage, code_config, code_options, set_looks
from minidalle.training.trainer import Objective, TrainConfig


def _configure_encoder_decoder(given: Inputs) -> EncoderDecoderConfig:
    return code_config(given, "encoder_decoder")


def _encoder_decoder_objective(given: Inputs, config: TrainConfig) -> Objective:
    assert given.tokenizer and given.dvae
    options = code_options(given, "encoder_decoder")
    return encoder_decoder_objective(
        captioned_codes(given.source, given.dvae, given.tokenizer, config, given.device, **options)
    )


BASELINES = {
    "encoder_decoder": Stage(
        needs=("tokenizer", "dvae"), model=EncoderDecoder, config=EncoderDecoderConfig,
        configure=_configure_encoder_decoder, objective=_encoder_decoder_objective,
        prepare=set_looks,
    ),
}  # fmt: skip
