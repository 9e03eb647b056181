"""Describing: the same models read backwards, from a picture to its captions.

The prior gives p(codes | caption). By Bayes' rule, and with no caption likelier than another before
the picture is seen,

    p(caption | codes) = p(codes | caption) / Σ p(codes | other caption)

with one pass of the prior per caption (`rank_captions`; Li et al. 2023 classify with a diffusion
model in this way). The storybook has more captions than there is time for. So CLIP, which needs
one product per caption, proposes some, and the best are then changed fact by fact as long as the
prior finds the picture likelier (`describe_picture`).
"""

import random
from collections.abc import Iterable, Sequence
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from minidalle.editing import as_input
from minidalle.pipeline import MiniDALLE
from minidalle.world.captions import phrase
from minidalle.world.facts import (
    COLOURS,
    KINDS,
    PLACES,
    PLAYERS,
    RELATIONS,
    TOYS,
    Facts,
    Thing,
    mutations,
)

NUM_THINGS = 12  # of the 288 (kind, colour) pairs, from which pairs and groups are proposed
NUM_PROPOSED = 24  # captions that CLIP proposes to the prior
BATCH = 32  # captions per pass


@torch.no_grad()
def rank_captions(
    model: MiniDALLE, image: np.ndarray, captions: Sequence[str]
) -> list[tuple[str, float]]:
    """Captions with their probabilities, given that one of them is true, the likeliest first.

    image: uint8 H × H × 3, as large as the model's pictures. Raises MinidalleError.
    """
    codes = model.dvae.encode(as_input(model, image)).flatten(1)
    likelihood = _log_likelihood(model, codes, captions)
    shares = likelihood.softmax(0).tolist()
    order = likelihood.argsort(descending=True, stable=True).tolist()
    return [(captions[i], shares[i]) for i in order]


@torch.no_grad()
def describe_picture(
    model: MiniDALLE, image: np.ndarray, language: str = "en", rounds: int = 4
) -> tuple[str, Facts]:
    """A caption of a storybook picture that states all it can, and the facts in it.

    rounds: how often at most a fact is changed. Raises MinidalleError.
    """
    x = as_input(model, image)
    codes, vector = model.dvae.encode(x).flatten(1), model.clip.encode_image(x)[0]

    def best(facts: Iterable[Facts]) -> tuple[float, Facts]:
        """The facts under which the picture is likeliest."""
        several = list(dict.fromkeys(facts))
        likelihood = _log_likelihood(model, codes, [_say(f, "en") for f in several])
        i = int(likelihood.argmax())
        return likelihood[i].item(), several[i]

    things = [Thing(kind, colour) for kind, colour in product(KINDS, COLOURS)]
    near = _nearest(model, vector, [Facts((thing,)) for thing in things], NUM_THINGS)
    likely, found = best(_nearest(model, vector, _combine([f.things[0] for f in near]),
                                  NUM_PROPOSED))  # fmt: skip
    for _ in range(rounds):
        better, other = best(_neighbours(found, [f.things[0] for f in near]))
        if better <= likely:
            break
        likely, found = better, other
    return _say(found, language), found


def _say(facts: Facts, language: str) -> str:
    """Always the same sentence for the same facts."""
    return phrase(facts, language, random.Random(0))


def _combine(things: Sequence[Thing]) -> list[Facts]:
    """Lone things, groups and pairs of some things, in every place."""
    scenes = [Facts((thing,) * n) for thing in things for n in (1, 2, 3)]
    scenes += [
        Facts((a, b), relation)
        for (a, b), relation in product(permutations(things, 2), RELATIONS)
        if _is_possible(Facts((a, b), relation))
    ]
    return [Facts(f.things, f.relation, place) for f, place in product(scenes, PLACES)]


def _neighbours(facts: Facts, things: Sequence[Thing]) -> list[Facts]:
    """The facts with one of them changed, one of some things added, or one of two left out; as far
    as the world has such pictures."""
    changed = [other for _, other in mutations(facts)]
    first, *others = dict.fromkeys(facts.things)
    if others:
        changed += [Facts((thing,), None, facts.place) for thing in (first, *others)]
    for other in others or things:
        pairs = ((first, other), (other, first))
        changed += [Facts(*of, facts.place) for of in product(pairs, RELATIONS)]
    return [other for other in changed if _is_possible(other)]


def _is_possible(facts: Facts) -> bool:
    if facts.is_group or facts.relation is None:
        return True
    a, b = facts.things
    plays = a.kind in PLAYERS and b.kind in TOYS
    return a.kind != b.kind and (facts.relation != "playing with" or plays)


def _nearest(model: MiniDALLE, vector: Tensor, facts: list[Facts], n: int) -> list[Facts]:
    """Those that CLIP finds closest to a picture, closest first."""
    length = model.clip.config.text_length
    text = model.tokenizer.batch([_say(f, "en") for f in facts], length).to(model.device)
    similarity = torch.cat([model.clip.encode_text(t) @ vector for t in text.split(512)])
    return [facts[i] for i in similarity.topk(min(n, len(facts))).indices.tolist()]


def _log_likelihood(model: MiniDALLE, codes: Tensor, captions: Sequence[str]) -> Tensor:
    """ln p(codes | caption) for each caption: codes 1 N → n."""
    length = model.prior.config.text_length
    text = model.tokenizer.batch(list(captions), length).to(model.device)
    sums = []
    for part in text.split(BATCH):
        logits = model.prior.logits(part, codes.expand(len(part), -1))[1].float()
        likely = logits.log_softmax(-1).gather(-1, codes.expand(len(part), -1)[..., None])
        sums.append(likely.sum((1, 2)))
    return torch.cat(sums)
