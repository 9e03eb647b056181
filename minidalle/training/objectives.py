"""What each stage is trained on: for some rows of a step's batch, examples and their losses.

    dVAE     crowded pictures, no captions
    prior    the codes of pictures, and their captions, a few of them left out for guidance
    CLIP     pictures and captions, with hard negatives: the same words with another meaning

`baseline_objectives` has those of the baselines.

Row r of a batch of n at a step is example step · n + r of an endless source, so any step can be
replayed, and it does not matter which process computes which rows.
"""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from minidalle.clip import CLIP, contrastive_loss
from minidalle.datasets.source import Source
from minidalle.dvae import DVAE, tau_at
from minidalle.errors import MinidalleError
from minidalle.prior import Prior, joint_loss
from minidalle.tensors import to_tensor
from minidalle.tokenizer import Tokenizer
from minidalle.training import distributed
from minidalle.training.config import TrainConfig
from minidalle.training.trainer import Objective

SWAPS_ONLY_UNTIL = 0.4  # share of CLIP's training that shows nothing but swapped pairs


def dvae_objective(source: Source, config: TrainConfig, device: torch.device) -> Objective:
    """The dVAE's loss on crowded pictures, at the step's τ."""

    def objective(model: DVAE, step: int, progress: float, rows: range) -> NamedTuple:
        pictures = [source.crowded_image(step * config.batch_size + row) for row in rows]
        images = to_tensor(pictures, device).contiguous(memory_format=torch.channels_last)
        return model(images, tau_at(progress), progress)

    return objective


# (step, progress 0..1, rows of a batch) → captions of the whole batch, B T, codes of the rows, b N
CodeBatches = Callable[[int, float, range], tuple[Tensor, Tensor]]


def captioned_codes(
    source: Source,
    dvae: DVAE,
    tokenizer: Tokenizer,
    config: TrainConfig,
    device: torch.device,
    *,
    text_length: int,
    bpe_dropout: float,
    caption_dropout: float,
    colour_jitter: float,
    sampled_codes: bool = False,
) -> CodeBatches:
    """The prior's batches: captions of `text_length` tokens and the codes of their pictures.

    caption_dropout: share of captions left out; bpe_dropout: share of merges left out.
    colour_jitter: share of the training, from its beginning, in which the source varies its
    colours: shapes are then learnt apart from the colours they come in.
    sampled_codes: sample the codes from the dVAE's posterior in place of its argmax (the paper's
    footnote 6: a regulariser where data are few).
    """

    def batch(step: int, progress: float, rows: range) -> tuple[Tensor, Tensor]:
        n, first = config.batch_size, step * config.batch_size
        jitter = progress < colour_jitter
        pictures = [source.training_image(first + row, colour_jitter=jitter) for row in rows]
        with torch.no_grad():
            images = to_tensor(pictures, device)
            sample = dvae.quantizer.sample
            codes = sample(dvae.features(images)) if sampled_codes else dvae.encode(images)
            codes = codes.flatten(1)  # b N
        captions = [_tokens(first + row, jitter) for row in range(n)]
        return torch.cat(captions).to(device), codes

    def _tokens(i: int, jitter: bool) -> Tensor:
        rng = random.Random(f"prior {config.seed} {i}")  # the same in whatever process
        is_kept = rng.random() >= caption_dropout
        caption = source.training_caption(i, colour_jitter=jitter) if is_kept else ""
        return tokenizer.batch([caption], text_length, bpe_dropout, rng)

    return batch


def prior_objective(
    source: Source,
    dvae: DVAE,
    tokenizer: Tokenizer,
    config: TrainConfig,
    device: torch.device,
    **options: Any,
) -> Objective:
    """The prior's loss on captions and the codes of their pictures (`captioned_codes`)."""
    batch = captioned_codes(source, dvae, tokenizer, config, device, **options)

    def objective(model: Prior, step: int, progress: float, rows: range) -> NamedTuple:
        n = config.batch_size
        text, codes = batch(step, progress, rows)  # captions of all rows: their tokens are counted
        losses = model(text[rows.start : rows.stop], codes)
        # The text loss is a mean over the tokens of these rows; weighted by how many of the batch's
        # tokens they hold, the mean over microbatches is the mean over all tokens.
        num_text_tokens = (text < tokenizer.vocab_size).sum(1)  # B
        share = num_text_tokens[rows.start : rows.stop].sum() / num_text_tokens.sum().clamp(min=1)
        text_loss = losses.text * (share * n / len(rows))
        return joint_loss(text_loss, losses.image, model.config.text_weight)

    return objective


def clip_objective(
    source: Source,
    dvae: DVAE,
    tokenizer: Tokenizer,
    config: TrainConfig,
    device: torch.device,
    *,
    text_length: int,
) -> Objective:
    """The contrastive loss of pairs, half of the pictures reconstructed by the dVAE: it is the
    dVAE's pictures that CLIP will rank.

    Raises MinidalleError where gradients are to be accumulated.
    """
    if config.accumulate > 1:
        raise MinidalleError(
            "CLIP compares every picture of a batch with every caption of it: its batch has no"
            " microbatches; train it without accumulate, with a smaller batch if need be"
        )

    def objective(model: CLIP, step: int, progress: float, rows: range) -> NamedTuple:
        swaps_only = progress < SWAPS_ONLY_UNTIL
        pictures, captions = contrastive_batch(source, step, config.batch_size, swaps_only)
        images = to_tensor([pictures[row] for row in rows], device)
        reconstructed = sum(row < config.batch_size // 2 for row in rows)  # the first half of all
        with torch.no_grad():
            images[:reconstructed] = dvae.decode(dvae.encode(images[:reconstructed]))
        text = tokenizer.batch([captions[row] for row in rows], text_length).to(device)
        # Every picture is compared with every caption, those of other processes too.
        image_embedding = distributed.all_gather(model.encode_image(images))
        text_embedding = distributed.all_gather(model.encode_text(text))
        return contrastive_loss(image_embedding, text_embedding, model.similarity_scale())

    return objective


def contrastive_batch(
    source: Source, step: int, n: int, swaps_only: bool = False
) -> tuple[list[np.ndarray], list[str]]:
    """n pictures and n different captions.

    In the storybook each scene is followed by a hard negative: its two things swapped, or one fact
    changed. What tells the two apart is what CLIP must learn. Without swapped pairs it reads a
    caption as a bag of words (Yuksekgonul et al. 2023) and cannot tell left from right.

    swaps_only: nothing but swapped pairs, with captions that leave nothing open. A training begins
    with these, a curriculum with the hardest first: as long as anything is easier to learn, CLIP
    does not learn them at all.

    Raises MinidalleError where the source has too few different captions.
    """
    found: dict[str, np.ndarray] = {}  # by caption: none comes twice
    first = i = step * 2 * n
    longest = max(20 * n, 2 * (source.epoch or 0))  # holds a whole epoch, wherever it begins
    while len(found) < n:
        if i - first > longest:
            raise MinidalleError(
                f"CLIP needs {n} different captions per batch and there are only {len(found)}:"
                " add captions, or choose a smaller batch size"
            )
        for caption, picture in source.contrastive_pairs(i, swaps_only=swaps_only):
            found.setdefault(caption, picture)
        i += 1
    captions = list(found)[:n]
    order = np.random.default_rng(step).permutation(n)
    return [found[captions[j]] for j in order], [captions[j] for j in order]
