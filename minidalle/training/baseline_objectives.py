"""What each baseline is trained on: the captions and pictures that DALL·E is trained on.

encoder–decoder   the prior's examples
masked codes      the same, with some of the codes hidden
"""

import random
from typing import NamedTuple

import torch
from torch import Tensor

from minidalle.baselines.encoder_decoder import EncoderDecoder
from minidalle.baselines.gan import GAN
from minidalle.baselines.masked import Masked, hidden_cells
from minidalle.baselines.unclip import UnCLIP
from minidalle.clip import CLIP
from minidalle.datasets.source import Source
from minidalle.tensors import to_tensor
from minidalle.tokenizer import Tokenizer
from minidalle.training.config import TrainConfig
from minidalle.training.objectives import CodeBatches
from minidalle.training.trainer import Objective


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


def gan_objective(
    source: Source, tokenizer: Tokenizer, config: TrainConfig, device: torch.device
) -> Objective:
    """The losses of both networks on pictures, their captions, and wrong captions of them."""

    def objective(model: GAN, step: int, progress: float, rows: range) -> NamedTuple:
        c, examples = model.config, [step * config.batch_size + row for row in rows]
        pictures = [source.training_image(i, colour_jitter=False) for i in examples]
        captions = [source.training_caption(i, colour_jitter=False) for i in examples]
        wrong = [source.mismatched_caption(i) for i in examples]
        text = tokenizer.batch(captions + wrong, c.text_length).to(device)  # 2b T
        penalise = (step + 1) % c.r1_every == 0
        return model(to_tensor(pictures, device), *text.chunk(2), with_r1=penalise)

    return objective


def unclip_objective(
    source: Source, clip: CLIP, tokenizer: Tokenizer, config: TrainConfig, device: torch.device
) -> Objective:
    """The losses of unCLIP's prior and decoder on pictures, captions, and the vectors that a
    trained CLIP gives these pictures."""

    def objective(model: UnCLIP, step: int, progress: float, rows: range) -> NamedTuple:
        examples = [step * config.batch_size + row for row in rows]
        pictures = [source.training_image(i, colour_jitter=False) for i in examples]
        captions = [source.training_caption(i, colour_jitter=False) for i in examples]
        text = tokenizer.batch(captions, model.config.text_length).to(device)  # b T
        images = to_tensor(pictures, device)
        with torch.no_grad():
            vectors = clip.encode_image(images)
        return model(images, text, vectors)

    return objective
