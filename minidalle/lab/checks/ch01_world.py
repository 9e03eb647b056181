"""Chapter 01, pictures and captions: the checks of its exercises."""

from collections import Counter

import torch
from torch import Tensor

from minidalle.lab.checks.engine import Mistake, Property, Task
from minidalle.world.captions import parse
from minidalle.world.facts import Thing

# --- thing_holds: is what a caption states of a thing true of it? ---------------------------------


def thing_holds(stated: Thing, seen: Thing) -> bool:
    return all(
        asked in (None, there)
        for asked, there in (
            (stated.kind, seen.kind), (stated.colour, seen.colour), (stated.size, seen.size),
        )
    )  # fmt: skip


_SEEN = Thing("car", "red", "small")

THING_HOLDS = Task(
    name="thing_holds", chapter=1, difficulty=1, minutes=10, answer=thing_holds,
    cases=lambda: [
        (Thing("car", None, None), _SEEN), (Thing("car", "red", None), _SEEN), (_SEEN, _SEEN),
        (Thing("dog", None, None), _SEEN), (Thing("car", "blue", None), _SEEN),
        (Thing("car", None, "big"), _SEEN), (Thing("car", "red", "big"), _SEEN),
        (Thing("dog", "red", "small"), _SEEN), (Thing(None), _SEEN),
        (Thing(None, "red", "small"), _SEEN), (Thing(None, "blue", None), _SEEN),
        (Thing(None, None, "big"), _SEEN), (Thing(None, None, "big"), Thing("dog", "blue", "big")),
        (Thing("dog", "blue", None), Thing("dog", "blue", "big")),
    ],
    mistakes=(
        Mistake("None means \"not stated\", and what is not stated cannot be wrong; you ask for"
                " equality of everything.", lambda a, b: a == b),
        Mistake("The kind alone is compared; a blue car is no red one.",
                lambda a, b: a.kind in (None, b.kind)),
        Mistake("The size is forgotten.",
                lambda a, b: a.kind in (None, b.kind) and a.colour in (None, b.colour)),
        Mistake("One fact that holds is not enough: all that are stated must hold.",
                lambda a, b: a.kind == b.kind or a.colour == b.colour or a.size == b.size),
        Mistake("`any` where `all` is meant: a fact left open holds, and then so does everything.",
                lambda a, b: a.kind in (None, b.kind) or a.colour in (None, b.colour) or a.size in (
                    None, b.size)),
        Mistake("A fact that is left open is counted as wrong.",
                lambda a, b: a.kind == b.kind and a.colour == b.colour and a.size in (
                    None, b.size)),
        Mistake("The kind may be left open too: None in `stated` is no kind.",
                lambda a, b: a.kind == b.kind and a.colour in (None, b.colour) and a.size in (
                    None, b.size)),
    ),
    hints=(
        "A caption states some facts and leaves others open. Which of them can be wrong?",
        "For each of kind, colour and size: it holds if it is None, or equal.",
        "all(…) of three tests such as `stated.colour in (None, seen.colour)`.",
    ),
)  # fmt: skip


# --- best_colour: the closed form by which a drawing is painted -----------------------------------


def best_colour(r: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return ((r - b) @ a / (a @ a)).clamp(0, 255)


def _painted(
    colour: tuple[float, float, float], weights: list[float], noise: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """A change by a drawing in a colour, with noise: r, a and b."""
    a, b = torch.tensor(weights), 60 * torch.randn(3, len(weights))
    return torch.tensor(colour)[:, None] * a + b + noise * torch.randn_like(b), a, b


BEST_COLOUR = Task(
    name="best_colour", chapter=1, difficulty=2, minutes=15, answer=best_colour,
    cases=lambda: [
        (torch.tensor([[222.0], [44.0], [48.0]]), torch.ones(1), torch.zeros(3, 1)),
        _painted((222.0, 44.0, 48.0), [0.5]),
        _painted((44.0, 96.0, 224.0), [1.0, 0.76]),
        _painted((70.0, 160.0, 30.0), [1.0, 0.0, 0.5], 9.0),
        _painted((48.0, 158.0, 66.0), [1.0, 1.0, 0.76, 0.3, 0.0], 9.0),
        _painted((250.0, 3.0, 120.0), [1.0, 0.5, 0.0, 0.0], 60.0),
        _painted((300.0, -40.0, 128.0), [1.0, 0.76, 0.2, 0.0], 4.0),
        _painted((140.0, 66.0, 190.0), [1.0] * 4 + [0.76] * 3 + [0.0] * 4, 20.0),
    ],
    properties=(Property("each channel of a colour lies between 0 and 255",
                         lambda v, r, a, b: (v >= 0).all() and (v <= 255).all()),),
    tolerance=1e-4,
    mistakes=(
        Mistake("b is forgotten: outlines, eyes and the hidden backdrop are not the paint's.",
                lambda r, a, b: (r @ a / (a @ a)).clamp(0, 255)),
        Mistake("The sum of the weights is no ⟨a, a⟩: below, each weight is squared.",
                lambda r, a, b: ((r - b) @ a / a.sum()).clamp(0, 255)),
        Mistake("That is the mean of r − b over all pixels; a pixel that the paint does not reach"
                " must not count.", lambda r, a, b: (r - b).mean(-1).clamp(0, 255)),
        Mistake("A pixel counts by its weight: above, r − b is multiplied with a once more.",
                lambda r, a, b: ((r - b).sum(-1) / a.sum()).clamp(0, 255)),
        Mistake("The mean of (r − b) / a counts all painted pixels alike; where a is small,"
                " the noise is divided by it and grows.",
                lambda r, a, b: torch.where(a > 0, (r - b) / a.clamp(min=1e-9), 0.0).sum(-1).div(
                    (a > 0).sum()).clamp(0, 255)),
        Mistake("b is on the wrong side: r − b is what the paint has to explain.",
                lambda r, a, b: ((r + b) @ a / (a @ a)).clamp(0, 255)),
        Mistake("One number for all three channels is a grey: minimise each channel by itself.",
                lambda r, a, b: ((r - b) @ a / (a @ a)).mean().expand(3).clamp(0, 255)),
        Mistake("The colour is not kept between 0 and 255.", lambda r, a, b: (r - b) @ a / (a @ a)),
    ),
    hints=(
        "Section 6 has the closed form for one channel. Which of r, a and b have three?",
        "Above: the dot product of a with each row of r − b. Below: the one of a with itself.",
        "(r - b) @ a gives three numbers; .clamp(0, 255) keeps them in range.",
    ),
)  # fmt: skip


# --- dice -----------------------------------------------------------------------------------------


def dice(r: Tensor, p: Tensor) -> float:
    return (2 * (r @ p) / (r @ r + p @ p)).item()


DICE = Task(
    name="dice", chapter=1, difficulty=1, minutes=10, answer=dice,
    cases=lambda: [
        (torch.tensor([1.0]), torch.tensor([1.0])), (torch.tensor([2.0]), torch.tensor([1.0])),
        (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])), (torch.rand(6), torch.rand(6)),
        (torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])), (torch.randn(9), torch.randn(9)),
    ],
    properties=(Property("of non-negative vectors it lies between 0 and 1",
                         lambda v, r, p: -1e-6 <= v <= 1 + 1e-6 or (r * p).min() < 0),),
    mistakes=(
        Mistake("That is the cosine: it forgives a drawing that is only faintly there.",
                lambda r, p: (r @ p / (r.norm() * p.norm())).item()),
        Mistake("The 2 is missing: of a thing with itself it must be 1.",
                lambda r, p: (r @ p / (r @ r + p @ p)).item()),
        Mistake("Lengths are added, and their squares are wanted: ⟨r, r⟩, not |r|.",
                lambda r, p: (2 * (r @ p) / (r.norm() + p.norm())).item()),
        Mistake("That is the overlap with one of the two alone; Dice treats both alike.",
                lambda r, p: (r @ p / (r @ r)).item()),
        Mistake("Jaccard's index: the part that both share is taken off below. A good measure, and"
                " another one.", lambda r, p: (r @ p / (r @ r + p @ p - r @ p)).item()),
    ),
    hints=(
        "Section 6 has the formula; a dot product is `r @ p`.",
        "Above: twice the dot product of the two. Below: each with itself, added.",
        "It ends with .item(), so that a number comes back and not a tensor.",
    ),
)  # fmt: skip


# --- same_facts -----------------------------------------------------------------------------------


def same_facts(a: str, b: str) -> bool:
    return parse(a) == parse(b)


def _unsized(caption: str) -> tuple:
    facts = parse(caption)
    return [(t.kind, t.colour) for t in facts.things], facts.relation, facts.place


def _kinds(caption: str) -> Counter:
    return Counter(t.kind for t in parse(caption).things)


SAME_FACTS = Task(
    name="same_facts", chapter=1, difficulty=2, minutes=15, answer=same_facts,
    cases=lambda: [
        ("a red car", "a red car"), ("a red car", "one red automobile"),
        ("a red car", "a blue car"), ("a red car on the grass", "一只红色的汽车停在草地上"),
        ("a red car on the grass", "a red car in the snow"), ("a car", "a red car"),
        ("two dogs", "a dog"), ("a dog left of a cat", "a cat right of a dog"),
        ("a dog left of a cat", "a cat left of a dog"), ("a dog above a cat", "a dog and a cat"),
        ("in the snow, a dog", "a dog standing in the snow"), ("a big dog", "a small dog"),
        ("a big dog", "a dog"), ("a big dog", "one large dog"), ("three dogs", "two dogs"),
        ("three dogs", "3 dogs"), ("a red dog and a blue cat", "a blue dog and a red cat"),
        ("two red dogs", "two dogs"),
    ],
    mistakes=(
        Mistake("Different words may state the same facts: parse both captions first.",
                lambda a, b: a == b),
        Mistake("Only the kinds are compared; colours, sizes, places and relations are facts too.",
                lambda a, b: _kinds(a) == _kinds(b)),
        Mistake("The size is left out: a big dog is no small one.", lambda a, b: _unsized(a) == (
            _unsized(b))),
        Mistake("The place is left out.", lambda a, b: (parse(a).things, parse(a).relation) == (
            parse(b).things, parse(b).relation)),
        Mistake("The relation is left out: who stands left of whom is a fact.",
                lambda a, b: (parse(a).place, sorted(map(str, parse(a).things))) == (
                    parse(b).place, sorted(map(str, parse(b).things)))),
        Mistake("Things are put into a set, in which two dogs are one.",
                lambda a, b: (parse(a).place, parse(a).relation, set(parse(a).things)) == (
                    parse(b).place, parse(b).relation, set(parse(b).things))),
    ),
    hints=(
        "There is a function that turns a caption of either language into facts.",
        "Facts are a frozen dataclass: two of them are equal when all of their parts are.",
        "One line: parse of the one, compared with parse of the other.",
    ),
)  # fmt: skip


# --- shows_held_out -------------------------------------------------------------------------------


def shows_held_out(things: tuple, held_out: frozenset) -> bool:
    return any((t.kind, t.colour) in held_out for t in things)


_HELD = frozenset({("car", "green"), ("dog", "blue")})

SHOWS_HELD_OUT = Task(
    name="shows_held_out", chapter=1, difficulty=1, minutes=5, answer=shows_held_out,
    cases=lambda: [
        ((), _HELD), ((Thing("car", "green", "small"),), _HELD),
        ((Thing("car", "red", "small"),), _HELD), ((Thing("cat", "green", "small"),), _HELD),
        ((Thing("car", "blue", "small"),), _HELD),
        ((Thing("cat", "red", "small"), Thing("dog", "blue", "small")), _HELD),
        ((Thing("car", "green", "big"), Thing("cat", "red", "small")), _HELD),
        ((Thing("car", "blue", "small"), Thing("dog", "green", "small")), _HELD),
        ((Thing("cat", "red", "big"), Thing("dog", "blue", "big"), Thing("cat", "red", "big")),
         _HELD),
        ((Thing("cat", "red", "small"),), frozenset({("cat", "red")})),
        ((Thing("car", "green", "small"),), frozenset()),
    ],
    mistakes=(
        Mistake("One held-out pair anywhere in the picture spoils it for training: any, not all.",
                lambda things, held: all((t.kind, t.colour) in held for t in things)),
        Mistake("Only the first thing is looked at.",
                lambda things, held: bool(things) and (things[0].kind, things[0].colour) in held),
        Mistake("No kind is held out, and no colour: only certain *pairs* of the two.",
                lambda things, held: any(t.kind in {k for k, _ in held} for t in things)),
        Mistake("The colour of one thing and the kind of another are no pair.",
                lambda things, held: any(k in {t.kind for t in things} and c in {
                    t.colour for t in things} for k, c in held)),
        Mistake("The pair is written (kind, colour), in this order.",
                lambda things, held: any((t.colour, t.kind) in held for t in things)),
    ),
    hints=(
        "A picture belongs to `compositions` as soon as one thing in it does.",
        "Make the pair of each thing, and look it up.",
        "any(… in held_out for thing in things).",
    ),
)  # fmt: skip

TASKS = (THING_HOLDS, BEST_COLOUR, DICE, SAME_FACTS, SHOWS_HELD_OUT)
