"""Chapter 08, train the prior: the checks of its exercises."""

import math

import torch
from torch import Tensor

from minidalle.lab.checks.engine import Mistake, Property, Task
from minidalle.training.config import TrainConfig
from minidalle.training.trainer import lr_at

# --- learning_rate --------------------------------------------------------------------------------


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    return lr_at(step, TrainConfig(steps=steps, lr=peak, warmup_steps=warmup, final_lr_ratio=0.0))


def _rise(step, warmup):
    return min(1.0, (step + 1) / warmup)


def _fall(step, steps):
    return 0.5 * (1 + math.cos(math.pi * step / steps))


LEARNING_RATE = Task(
    name="learning_rate", chapter=8, difficulty=2, minutes=15, answer=learning_rate,
    cases=lambda: [(step, 100, 1.0, 10) for step in (0, 4, 9, 10, 50, 75, 99)]
    + [(3, 20, 0.5, 5), (0, 8, 2.0, 1), (1, 4, 3.0, 9), (6, 7, 1e-3, 2)],
    mistakes=(
        Mistake("There is no warm-up: the first steps, when Adam knows nothing yet, are the"
                " largest.", lambda s, n, p, w: p * _fall(s, n)),
        Mistake("It never falls: half a cosine takes it to zero in the end.",
                lambda s, n, p, w: p * _rise(s, w)),
        Mistake("The first step has a rate of 0, and is lost: count it from 1 in the warm-up.",
                lambda s, n, p, w: p * min(1.0, s / w) * _fall(s, n)),
        Mistake("It is 0 at the last step already, and that step is lost: divide by `steps`.",
                lambda s, n, p, w: p * _rise(s, w) * _fall(s, n - 1)),
        Mistake("It falls in a straight line.",
                lambda s, n, p, w: p * _rise(s, w) * (1 - s / n)),
        Mistake("A warm-up that never ends: hold it at 1.",
                lambda s, n, p, w: p * (s + 1) / w * _fall(s, n)),
    ),
    hints=(
        "A product of three: the peak, a rise, and a fall.",
        "The rise: (step + 1) / warmup, never above 1. The fall: half a cosine of step / steps.",
        "peak · min(1, (step + 1)/warmup) · ½ (1 + cos(π step/steps)).",
    ),
)  # fmt: skip


# --- follow: the running mean of the weights ------------------------------------------------------


def follow(mean: Tensor, now: Tensor, decay: float) -> Tensor:
    return decay * mean + (1 - decay) * now


FOLLOW = Task(
    name="follow", chapter=8, difficulty=1, minutes=5, answer=follow,
    cases=lambda: [(torch.tensor([1.0]), torch.tensor([0.0]), 0.9),
                   (torch.randn(3), torch.randn(3), 0.5 ** 0.5), (torch.randn(2, 2),
                                                                  torch.randn(2, 2), 0.99),
                   (torch.randn(2, 3, 4), torch.randn(2, 3, 4), 0.0)],
    mistakes=(
        Mistake("The weights are swapped: with a decay of 0.999 the mean should hardly move.",
                lambda m, n, d: (1 - d) * m + d * n),
        Mistake("The new weights are added in full: the mean grows without end.",
                lambda m, n, d: d * m + n),
        Mistake("A plain mean of the two forgets at once; the decay sets how slowly.",
                lambda m, n, d: (m + n) / 2),
        Mistake("The mean never moves.", lambda m, n, d: m.clone()),
    ),
    hints=(
        "Most of the old, a little of the new.",
        "The shares are decay and 1 − decay.",
        "decay · mean + (1 − decay) · now.",
    ),
)  # fmt: skip


# --- clip_gradients -------------------------------------------------------------------------------


def clip_gradients(gradients: list, longest: float) -> list:
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    scale = min(1.0, longest / length) if length else 1.0
    return [g * scale for g in gradients]


CLIP_GRADIENTS = Task(
    name="clip_gradients", chapter=8, difficulty=3, minutes=15, answer=clip_gradients,
    cases=lambda: [
        ([torch.tensor([3.0, 4.0])], 1.0), ([torch.tensor([3.0, 4.0])], 10.0),
        ([torch.tensor([3.0]), torch.tensor([4.0])], 1.0), ([torch.zeros(2)], 1.0),
        ([torch.randn(3), 4 * torch.randn(2, 2)], 2.0), ([torch.tensor([-3.0, 4.0])], 5.0),
        ([torch.randn(2, 3), torch.zeros(4), 9 * torch.randn(1)], 0.5),
        ([torch.full((2,), 0.1), torch.full((2, 2), -0.2)], 3.0),
        ([torch.tensor([0.3, -0.4]), torch.zeros(1)], 0.2),
    ],
    properties=(Property(
        "together they are no longer than `longest`",
        lambda out, g, longest: sum(float(x.square().sum()) for x in out) <= longest**2 + 1e-3),),
    mistakes=(
        Mistake("Each tensor is clipped by itself: that turns the gradient. All of them together"
                " have one length, and are scaled by one number.",
                lambda gs, c: [g * min(1.0, c / max(1e-9, float(g.norm()))) for g in gs]),
        Mistake("Each number is clamped: that turns the gradient.",
                lambda gs, c: [g.clamp(-c, c) for g in gs]),
        Mistake("Short gradients are stretched: only long ones are to be scaled.",
                lambda gs, c: [g * (c / max(1e-9, math.sqrt(sum(float(
                    x.square().sum()) for x in gs)))) for g in gs]),
        Mistake("Lengths are added. The length of the whole is the root of the sum of squares.",
                lambda gs, c: [g * min(1.0, c / max(1e-9, sum(float(
                    x.norm()) for x in gs))) for g in gs]),
        Mistake("The root is missing: that is the squared length.",
                lambda gs, c: [g * min(1.0, c / max(1e-9, sum(float(
                    x.square().sum()) for x in gs))) for g in gs]),
    ),
    hints=(
        "Think of all gradients as one long vector. How long is it?",
        "One scale for all: `longest` over that length, but never more than 1.",
        "sqrt of the sum of all squares; beware of a length of zero.",
    ),
)  # fmt: skip


# --- drop_captions --------------------------------------------------------------------------------


def drop_captions(captions: list, draws: list, rate: float) -> list:
    return ["" if u < rate else caption for caption, u in zip(captions, draws, strict=True)]


DROP_CAPTIONS = Task(
    name="drop_captions", chapter=8, difficulty=1, minutes=5, answer=drop_captions,
    cases=lambda: [([], [], 0.1), (["a dog"], [0.05], 0.1), (["a dog"], [0.5], 0.1),
                   (["a", "b", "c", "d"], [0.2, 0.05, 0.9, 0.0], 0.1),
                   (["a", "b", "c"], [0.0, 0.5, 0.99], 1.0), (["a", "b"], [0.0, 0.5], 0.0),
                   (["a", "b", "c"], [0.3, 0.2, 0.1], 0.2), (["", "b"], [0.9, 0.9], 0.5)],
    properties=(Property("no pair is lost: as many captions come out as go in",
                         lambda out, captions, *_: len(out) == len(captions)),),
    mistakes=(
        Mistake("The caption is taken out of the list, and from there on every picture has its"
                " neighbour's. Put the empty caption in its place.",
                lambda cs, us, r: [c for c, u in zip(cs, us, strict=True) if u >= r]),
        Mistake("The wrong way round: `rate` is the share that is dropped.",
                lambda cs, us, r: [c if u < r else "" for c, u in zip(cs, us, strict=True)]),
        Mistake("None is no caption: the empty one is \"\", all padding.",
                lambda cs, us, r: [None if u < r else c for c, u in zip(cs, us, strict=True)]),
        Mistake("One random number for the whole batch: each caption has its own.",
                lambda cs, us, r: ["" if us and us[0] < r else c for c in cs]),
    ),
    hints=(
        "Each caption comes with a number between 0 and 1.",
        "It is dropped when that number is below the rate.",
        "A list of `\"\" if u < rate else caption`.",
    ),
)  # fmt: skip

TASKS = (LEARNING_RATE, FOLLOW, CLIP_GRADIENTS, DROP_CAPTIONS)
