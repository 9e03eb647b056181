"""A row of the table of stages, and what it is made from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from minidalle.clip import CLIP
from minidalle.datasets.source import Source
from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.tokenizer import Tokenizer
from minidalle.training import distributed
from minidalle.training.config import TrainConfig
from minidalle.training.presets import Preset
from minidalle.training.trainer import Objective


class Inputs(NamedTuple):
    """What a stage is built from: the source, the preset, and what earlier stages gave."""

    source: Source
    preset: Preset
    device: torch.device
    tokenizer: Tokenizer | None = None
    dvae: DVAE | None = None
    clip: CLIP | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One model that is trained in steps."""

    needs: tuple[str, ...]  # the stages that it learns from
    model: Any  # the class of the model
    config: Any  # and of its config
    configure: Callable[[Inputs], Any]  # the preset's config, with sizes that earlier stages set
    objective: Callable[[Inputs, TrainConfig], Objective]
    prepare: Callable[[Any, Inputs], None] | None = None  # a new model, before its first step
    grow: Callable[[Any, Inputs], Any] | None = None  # a trained model, for these inputs
    min_batch_size: int = 1
    distinct_captions: bool = False  # whether no caption may occur twice in a batch

    def check(self, name: str, config: TrainConfig, source: Source) -> None:
        """Raises MinidalleError where a batch does not divide among processes and microbatches, is
        larger than the data, or is too small for the loss."""
        distributed.local_rows(config.batch_size, 0, config.accumulate)
        size, epoch = config.batch_size, source.epoch
        if size < self.min_batch_size:
            raise MinidalleError(
                "CLIP learns by telling the captions of a batch apart: choose a --batch-size of 2"
                " or more"
            )
        if epoch is None:
            return
        kind, available = "pictures", epoch
        if self.distinct_captions:
            kind = "different captions"
            available = len({source.caption("train", i) for i in range(epoch)})
        if available < size:
            smaller = f", or choose --batch-size {available} or less"
            raise MinidalleError(
                f"{name} needs {size} {kind} per batch and there are only {available} to train"
                f" on: add some{smaller if available >= self.min_batch_size else ''}"
            )


# --- What models of captions and codes have in common ---------------------------------------------


def code_config(given: Inputs, name: str) -> Any:
    """The preset's config of a model, with the vocabulary, codes and looks of earlier stages."""
    assert given.tokenizer and given.dvae
    shape, config = given.dvae.config, given.preset.models[name]
    return replace(
        config, vocab_size=given.tokenizer.vocab_size, codes=shape.codes, grid=shape.grid,
        look_size=3 * shape.factor**2 if config.look_size else 0,
    )  # fmt: skip


def picture_config(given: Inputs, name: str) -> Any:
    """The preset's config of a model of captions and pixels, with their sizes."""
    assert given.tokenizer
    config, vocab_size = given.preset.models[name], given.tokenizer.vocab_size
    return replace(config, vocab_size=vocab_size, image_size=given.source.size)


def code_options(given: Inputs, name: str) -> dict[str, Any]:
    """How the batches of a model are made (`objectives.captioned_codes`)."""
    preset = given.preset
    return {
        "text_length": preset.models[name].text_length,
        "bpe_dropout": preset.bpe_dropout,
        "caption_dropout": preset.caption_dropout,
        "colour_jitter": preset.colour_jitter,
        "sampled_codes": preset.sampled_codes,
    }


def set_looks(model: Any, given: Inputs) -> None:
    """Tell a new model what the dVAE's codes look like, where its config asks for it."""
    assert given.dvae
    if model.config.look_size:
        model.set_looks(given.dvae.looks())
