"""What each baseline is trained on: the captions and pictures that DALL·E is trained on.

encoder–decoder   the prior's examples
masked codes      the same, with some of the codes hidden
"""

import random
from typing import NamedTuple

import torch
from torch import Tensor

from minidalle.baselines.encoder_decoder import EncoderDecoder
from minidalle.baselines.masked import Masked, hidden_cells
from minidalle.training.objectives import CodeBatches
from minidalle.training.trainer import Objective, TrainConfig


def encoder_decoder_objective(batch: CodeBatches) -> Objective:
    """The loss of encoder and decoder on the prior's examples (`captioned_codes`)."""

    def objective(model: EncoderDecoder, step: int, progress: float, rows: range) -> NamedTuple:
        text, codes = batch(step, progress, rows)
        return model(text[rows.start : rows.stop], codes)

    return objective


def masked_objective(batch: CodeBatches, config: TrainConfig, device: torch.device) -> Objective:
    """The masked model's loss on the prior's examples (`captioned_codes`)."""

    def objective(model: Masked, step: int, progress: float, rows: range) -> NamedTuple:
        text, codes = batch(step, progress, rows)
        hidden = _hidden(step, codes.shape[1]).to(device)  # B N
        losses = model(text[rows.start : rows.stop], codes, hidden[rows.start : rows.stop])
        # As with the prior's text: the mean over microbatches is the mean over all hidden codes.
        n, share = len(text), hidden[rows.start : rows.stop].sum() / hidden.sum()
        return losses._replace(total=losses.total * (share * n / len(rows)))

    def _hidden(step: int, cells: int) -> Tensor:
        """The hidden cells of the whole batch, with u stratified: one in each n-th of 0..1."""
        rng, n = random.Random(f"hidden {config.seed} {step}"), config.batch_size
        strata = rng.sample(range(n), n)  # in random order, since even rows are in English
        return torch.stack([hidden_cells((k + rng.random()) / n, cells, rng) for k in strata])

    return objective
