"""What each stage learns from: a batch, and the losses on it, as a function of the step.

    dVAE     crowded pages, no captions
    prior    the codes of pictures, and their captions, a few of them left out for guidance
    CLIP     pictures and captions, with others that have the same words and mean otherwise

The batch of a step is pictures step · n … step · n + n − 1 of an endless source, so that any step
can be replayed; a process draws its share of them (`distributed.share`).
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from minidalle.datasets.source import Source, caption_of, to_tensor
from minidalle.dvae import DVAE, tau_at
from minidalle.errors import MinidalleError
from minidalle.tokenizer import Tokenizer
from minidalle.training import distributed
from minidalle.training.trainer import FitConfig
from minidalle.world.captions import LANGUAGES, Told, describe
from minidalle.world.storybook import TOLD, Storybook, exchanged, render, shaded, sibling

ALL, SOME = Told(colours=1.0, relation=1.0), TOLD["train"]  # what CLIP's captions tell
SHADED = 0.75  # share of pictures that are in shades, as long as the prior's training shows any
BINDING = 0.4  # share of CLIP's training in which all is pairs that have been exchanged

Losses = Callable[[nn.Module, int, float], NamedTuple]  # of a model, a step and the progress


def _indices(step: int, n: int) -> list[int]:
    return [step * n + row for row in distributed.share(n)]


def dvae_losses(source: Source, config: FitConfig, device: torch.device) -> Losses:
    """Pages, at the step's τ."""

    def losses(model: nn.Module, step: int, progress: float) -> NamedTuple:
        pages = [source.page(i) for i in _indices(step, config.batch_size)]
        images = to_tensor(pages, device).contiguous(memory_format=torch.channels_last)
        return model(images, tau_at(progress), progress)

    return losses


def prior_losses(
    source: Source,
    dvae: DVAE,
    tokenizer: Tokenizer,
    config: FitConfig,
    device: torch.device,
    *,
    length: int,
    bpe_dropout: float,
    caption_dropout: float,
    shades: float,
) -> Losses:
    """Captions as `length` tokens, and the codes of their pictures. A caption's chances are its
    own: the same whatever process draws it; and so is what a word of it weighs, one of all the
    words of the batch.

    shades: share of the training, from its beginning, in which most pictures of the storybook are
    in shades of their colours: what kinds look like is learnt apart from what the colours do.
    """

    def losses(model: nn.Module, step: int, progress: float) -> NamedTuple:
        n, mine = config.batch_size, distributed.share(config.batch_size)
        images = [_shown(source, i, progress < shades) for i in _indices(step, n)]
        with torch.no_grad():
            codes = dvae.encode(to_tensor(images, device)).flatten(1)  # b N
        rows = []
        for i in range(step * n, (step + 1) * n):  # the others' too: their words are to be counted
            rng = random.Random(f"prior {config.seed} {i}")
            kept = rng.random() >= caption_dropout
            caption = caption_of(source, "train", i) if kept else ""
            rows.append(tokenizer.batch([caption], length, bpe_dropout, rng))
        text = torch.cat(rows).to(device)  # B T
        words = (text < tokenizer.vocab_size).sum() * len(mine) / n
        return model(text[mine], codes, words)

    return losses


def _shown(source: Source, i: int, shades: bool) -> np.ndarray:
    """Training picture i; of the storybook with shades, most are in shades of their colours."""
    if not isinstance(source, Storybook):
        return source.image("train", i)
    scene = source.scene("train", i)
    if shades and random.Random(f"shown {source.seed} {i}").random() < SHADED:
        scene = shaded(scene, f"{source.seed} {i}")
    return render(scene, source.size)


def clip_losses(
    source: Source,
    dvae: DVAE,
    tokenizer: Tokenizer,
    config: FitConfig,
    device: torch.device,
    *,
    length: int,
) -> Losses:
    """Pairs, half of the pictures as the dVAE paints them: it is candidates that CLIP will rank."""
    if config.accumulate > 1:
        raise MinidalleError(
            "CLIP compares every picture of a batch with every caption of it: it cannot be drawn in"
            " parts; train it without accumulate, with a smaller batch if need be"
        )

    def losses(model: nn.Module, step: int, progress: float) -> NamedTuple:
        images, captions = clip_pairs(source, step, config.batch_size, progress < BINDING)
        mine = distributed.share(config.batch_size)
        x = to_tensor([images[i] for i in mine], device)
        painted = sum(i < config.batch_size // 2 for i in mine)  # the first half of all
        with torch.no_grad():
            x[:painted] = dvae.decode(dvae.encode(x[:painted]))
        return model(x, tokenizer.batch([captions[i] for i in mine], length).to(device))

    return losses


def clip_pairs(
    source: Source, step: int, n: int, binding: bool = False
) -> tuple[list[np.ndarray], list[str]]:
    """n pictures with n different captions. In the storybook each scene is followed by one in which
    its two things are exchanged, or that differs from it in one fact: what tells them apart is what
    CLIP must learn. Without the exchanged ones it reads a caption as a bag of words (Yuksekgonul et
    al. 2023), and who stands left of whom is lost on it.

    binding: of the storybook, nothing but pairs that can be exchanged, and captions that leave
    nothing open. So a training begins, as what goes with what is learnt last, and not at all while
    there is anything easier to learn (a curriculum, but with the hardest first).

    Raises MinidalleError where the source has too few different captions.
    """
    found: dict[str, np.ndarray] = {}  # by caption: none comes twice
    first = i = step * 2 * n
    longest = max(20 * n, 2 * (source.epoch or 0))  # a whole epoch lies in it, wherever it begins
    while len(found) < n:
        if i - first > longest:
            raise MinidalleError(
                f"CLIP needs {n} different captions a batch and there are only {len(found)}:"
                " add captions, or choose a smaller batch size"
            )
        if isinstance(source, Storybook):
            scene = source.scene("train", i)
            other = exchanged(scene, i)
            if other is None and not binding:
                other = sibling(scene, i)
            for s in (scene, other) if other else ():
                caption = describe(s, LANGUAGES[i % 2], f"clip {i}", ALL if binding else SOME)
                found.setdefault(caption, render(s, source.size))
        else:
            found.setdefault(source.caption("train", i), source.image("train", i))
        i += 1
    captions = list(found)[:n]
    order = np.random.default_rng(step).permutation(n)
    return [found[captions[j]] for j in order], [captions[j] for j in order]
