"""Sources with a planted fault, so that its effect on a model can be measured.

PlantedBias  a collection in which nearly all things of one kind, in one place, have one colour
Inserted     captions that do not belong there, each as often as it is listed

Both are for the prior: the dVAE and CLIP see the source as it is.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from minidalle.datasets.views import View
from minidalle.errors import MinidalleError
from minidalle.world.captions import CaptionDetail, describe
from minidalle.world.facts import SIZES, Facts, Thing, require
from minidalle.world.scenes import SEEN_COLOURS, Scene, lay_out, render
from minidalle.world.vocabulary import LANGUAGES

DETAIL = CaptionDetail(colours=0.5)  # half of the collection's captions leave the colour open


@dataclass(frozen=True)
class PlantedBias(View):
    """A source, and mixed into it a collection of lone things of which nearly all have one colour.

    The other colours that training shows of the kind share the rest. A picture of the collection
    always has the same caption, in English for even numbers and in Chinese for odd ones.

    things: different pictures in the collection; dose: share of the training examples, 0 … 1, that
    come from it; weights: how often each of its pictures is sampled, relative to the others (all
    alike by default, `balanced_weights` for a cure).
    """

    kind: str = "car"
    place: str = "grass"
    colour: str = "green"
    share: float = 0.9  # of the collection's things that have the colour, 0 … 1
    things: int = 400
    dose: float = 0.5
    weights: tuple[float, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights is not None and len(self.weights) != self.things:
            raise MinidalleError(
                f"{len(self.weights)} weights for {self.things} pictures: give one for each"
            )

    @property
    def name(self) -> str:
        how = "as they are" if self.weights is None else "weighted"
        return (
            f"{self.source.name}, and {self.dose:g} of {self.things} pictures of {self.kind} on"
            f" {self.place}, {self.share:g} of them {self.colour}, {how}"
        )

    def scene(self, j: int) -> Scene:
        """Scene j of the collection."""
        rng = random.Random(f"planted {self.seed} {j}")
        others = [colour for colour in SEEN_COLOURS[self.kind] if colour != self.colour]
        colour = self.colour if rng.random() < self.share else rng.choice(others)
        thing = Thing(self.kind, colour, rng.choice(SIZES))
        return lay_out(Facts((thing,), None, self.place), rng)

    def colours(self) -> list[str]:
        """The colour of each thing of the collection: its group."""
        return [require(self.scene(j).facts.things[0].colour) for j in range(self.things)]

    def collection_caption(self, j: int) -> str:
        """The caption of picture j of the collection."""
        return describe(self.scene(j), LANGUAGES[j % 2], f"planted {self.seed} {j}", DETAIL)

    def collection_image(self, j: int) -> np.ndarray:
        """Picture j of the collection."""
        return render(self.scene(j), self.size)

    def member(self, i: int) -> int | None:
        """Which picture of the collection training example i is; None: one of the source."""
        rng = random.Random(f"planted example {self.seed} {i}")
        if rng.random() >= self.dose:
            return None
        return rng.choices(range(self.things), self.weights)[0]

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        j = self.member(i)
        if j is None:
            return self.source.training_caption(i, colour_jitter=colour_jitter)
        return self.collection_caption(j)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        j = self.member(i)
        if j is None:
            return self.source.training_image(i, colour_jitter=colour_jitter)
        return self.collection_image(j)


def balanced_weights(groups: Sequence[str]) -> tuple[float, ...]:
    """A sampling weight for each example with which every group comes equally often.

    They are importance weights, target share ÷ share, and their sum is 1.
    """
    counts = Counter(groups)
    return tuple(1 / (len(counts) * counts[group]) for group in groups)


@dataclass(frozen=True)
class Inserted(View):
    """A source in which some of the first `span` training examples have other captions: a caption
    that is listed k times is seen k times. Each different one has a picture of its own, from the
    validation split."""

    captions: tuple[str, ...] = ()
    span: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.captions) > self.span:
            raise MinidalleError(
                f"{len(self.captions)} captions do not fit into {self.span} examples: raise span"
            )

    @property
    def name(self) -> str:
        return f"{self.source.name}, with {len(self.captions)} captions inserted"

    @cached_property
    def inserted(self) -> dict[int, str]:
        """The captions by the example in which each stands."""
        rng = random.Random(f"inserted {self.seed}")
        return dict(zip(rng.sample(range(self.span), len(self.captions)), self.captions,
                        strict=True))  # fmt: skip

    def training_caption(self, i: int, *, colour_jitter: bool) -> str:
        own = self.inserted.get(i)
        return own or self.source.training_caption(i, colour_jitter=colour_jitter)

    def training_image(self, i: int, *, colour_jitter: bool) -> np.ndarray:
        own = self.inserted.get(i)
        if own is None:
            return self.source.training_image(i, colour_jitter=colour_jitter)
        return self.source.image("validation", list(dict.fromkeys(self.captions)).index(own))
