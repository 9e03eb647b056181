"""Chapter 15, over-fitting: the checks of its exercises."""

import re

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from minidalle.lab.checks.engine import Mistake, Property, Task

# --- mirror_sides ---------------------------------------------------------------------------------

_OTHER = {"left": "right", "right": "left", "左": "右", "右": "左"}


def _swapped(caption: str, pattern: str, count: int = 0) -> str:
    return re.sub(pattern, lambda found: _OTHER[found[0]], caption, count=count)


def mirror_sides(caption: str) -> str:
    return _swapped(caption, r"\b(?:left|right)\b|[左右]")


def _one_side(caption: str) -> str:
    return re.sub(r"\bleft\b", "right", caption).replace("左", "右")


MIRROR_SIDES = Task(
    name="mirror_sides", chapter=15, difficulty=2, minutes=10, answer=mirror_sides,
    cases=lambda: [(caption,) for caption in (
        "", "a red cat", "a dog left of a cat", "a cat right of a dog", "a bright star",
        "a bright star right of a red car", "a leftover apple to the left", "左", "右边有一只狗",
        "一只猫在一只狗的左边，一个球在右边", "left, right, left", "the left car, right of a house",
    )],
    properties=(Property("a caption that names no side stays as it is",
                         lambda out, caption: out == caption or bool(
                             re.search(r"\bleft\b|\bright\b|[左右]", caption))),),
    mistakes=(
        Mistake("One after the other: after the first replacement every side is right, and the"
                " second turns all of them. Swap both in one pass.",
                lambda c: c.replace("left", "right").replace("right", "left").replace(
                    "左", "右").replace("右", "左")),
        Mistake("`bright` holds the letters of right, and `leftover` those of left: whole words"
                " only.", lambda c: _swapped(c, r"left|right|[左右]")),
        Mistake("Chinese has sides as well: 左 and 右.",
                lambda c: _swapped(c, r"\b(?:left|right)\b")),
        Mistake("Only the first side is swapped: a caption may name several.",
                lambda c: _swapped(c, r"\b(?:left|right)\b|[左右]", count=1)),
        Mistake("Left becomes right, and right stays: both ways.", _one_side),
        Mistake("`split()` leaves a comma at its word, and Chinese has no spaces to split at.",
                lambda c: " ".join(_OTHER.get(word, word) for word in c.split())),
        Mistake("`\\b` stands between a letter and something else; between two Chinese characters"
                " there is none.", lambda c: _swapped(c, r"\b(?:left|right|左|右)\b")),
    ),
    hints=(
        "Four words, two pairs, and each becomes its partner, all at the same time.",
        "re.sub takes a function: it is given the match, and returns what to put there.",
        "A dict of partners, and the pattern \\b(?:left|right)\\b|[左右].",
    ),
)  # fmt: skip


# --- drop_units -----------------------------------------------------------------------------------


def drop_units(x: Tensor, u: Tensor, rate: float, training: bool) -> Tensor:
    return x * (u >= rate) / (1 - rate) if training else x


def _units(*shape, rate: float, training: bool = True, size: float = 1.0) -> tuple:
    return size * torch.randn(*shape), torch.rand(*shape), rate, training


DROP_UNITS = Task(
    name="drop_units", chapter=15, difficulty=2, minutes=10, answer=drop_units,
    trained=("x",),
    cases=lambda: [
        (torch.tensor([2.0]), torch.tensor([0.7]), 0.5, True),
        (torch.tensor([2.0]), torch.tensor([0.2]), 0.5, True),
        (torch.tensor([2.0]), torch.tensor([0.2]), 0.5, False),
        (torch.tensor([1.0, -1.0]), torch.tensor([0.0, 0.9]), 0.0, True),
        _units(2, 5, rate=0.4), _units(3, 4, rate=0.2, training=False), _units(2, 3, 4, rate=0.75),
        _units(2, 6, rate=0.1, size=1000.0),
    ],
    properties=(
        Property("in use, nothing changes",
                 lambda out, x, u, rate, training: training or torch.allclose(out, x)),
    ),
    mistakes=(
        Mistake("What stays must be larger: × 1 / (1 − rate), or the sum shrinks in training.",
                lambda x, u, p, t: x * (u >= p) if t else x),
        Mistake("The first paper scales in use; then every model must know its rate for ever."
                " Scale what stays, in training, and use has nothing to do.",
                lambda x, u, p, t: x * (u >= p) if t else x * (1 - p)),
        Mistake("The wrong way round: `rate` is the share that is dropped.",
                lambda x, u, p, t: x * (u < p) / (1 - p) if t else x),
        Mistake("1 − rate stays, so 1 − rate is divided by, and not `rate`.",
                lambda x, u, p, t: x * (u >= p) / max(p, 1e-6) if t else x),
        Mistake("It drops in use as well: then the same caption gives another answer each time.",
                lambda x, u, p, t: x * (u >= p) / (1 - p)),
        Mistake("In training nothing is dropped, in use it is: `training` is turned round.",
                lambda x, u, p, t: x if t else x * (u >= p) / (1 - p)),
        Mistake("u may be exactly 0, and at a rate of 0 nothing may be dropped: ≥, not >.",
                lambda x, u, p, t: x * (u > p) / (1 - p) if t else x),
        Mistake("Whole rows are dropped: each unit has its own u.",
                lambda x, u, p, t: x * (u[..., :1] >= p) / (1 - p) if t else x),
    ),
    hints=(
        "Two cases: in use, x comes back. In training, some of x becomes 0.",
        "u ≥ rate is true for a share of 1 − rate. What stays has to make up for what is gone.",
        "x * (u >= rate) / (1 - rate) in training, else x.",
    ),
)  # fmt: skip


# --- adamw_step -----------------------------------------------------------------------------------


def adamw_step(weight: Tensor, gradient: Tensor, lr: float, decay: float) -> Tensor:
    p = nn.Parameter(weight.clone())
    p.grad = gradient.clone()
    torch.optim.AdamW([p], lr=lr, weight_decay=decay, eps=1e-8).step()
    return p.detach()


def _adam(gradient: Tensor) -> Tensor:
    return gradient / (gradient.abs() + 1e-8)


ADAMW_STEP = Task(
    name="adamw_step", chapter=15, difficulty=3, minutes=15, answer=adamw_step,
    cases=lambda: [
        (torch.tensor([1.0]), torch.tensor([0.0]), 0.1, 0.5),
        (torch.tensor([1.0]), torch.tensor([4.0]), 0.1, 0.0),
        (torch.tensor([2.0, -2.0]), torch.tensor([0.5, 0.5]), 0.1, 0.2),
        (torch.randn(3), torch.randn(3), 0.5, 0.4),
        (torch.randn(2, 3), torch.randn(2, 3), 0.2, 1.0),
        (torch.randn(4), 1e-6 * torch.randn(4), 0.1, 0.3),
        (torch.randn(2, 2, 2), 1e4 * torch.randn(2, 2, 2), 0.3, 0.7),
    ],
    mistakes=(
        Mistake("That is L2 in Adam: the decay goes into the gradient, and is then divided by its"
                " own size. AdamW decays the weight directly.",
                lambda w, g, lr, d: w - lr * _adam(g + d * w)),
        Mistake("The decay is not multiplied by lr: it would go on as the rate falls to 0.",
                lambda w, g, lr, d: w * (1 - d) - lr * _adam(g)),
        Mistake("The weight does not decay at all.", lambda w, g, lr, d: w - lr * _adam(g)),
        Mistake("It grows: decay takes lr · decay · weight *away*.",
                lambda w, g, lr, d: w + lr * d * w - lr * _adam(g)),
        Mistake("That is SGD: Adam divides the gradient by its own size.",
                lambda w, g, lr, d: w - lr * (g + d * w)),
        Mistake("The *updated* weight decays; AdamW shrinks the old one.",
                lambda w, g, lr, d: (w - lr * _adam(g)) * (1 - lr * d)),
        Mistake("Each weight shrinks by the same amount: that is the L1 norm. Decay takes a share.",
                lambda w, g, lr, d: w - lr * d * w.sign() - lr * _adam(g)),
        Mistake("0 / 0 is nan: ε belongs under the fraction.",
                lambda w, g, lr, d: w - lr * d * w - lr * g / g.square().sqrt()),
        Mistake("The step goes uphill: along *minus* the gradient.",
                lambda w, g, lr, d: w - lr * d * w + lr * _adam(g)),
    ),
    hints=(
        "Two things are taken from the weight, each times lr: a share of itself, and Adam's"
        " direction.",
        "In the first step Adam's direction is g / (|g| + ε). The decay does not enter it.",
        "weight − lr · decay · weight − lr · g / (|g| + 1e-8).",
    ),
)  # fmt: skip


# --- prune_smallest -------------------------------------------------------------------------------


def prune_smallest(weight: Tensor, share: float) -> Tensor:
    module = nn.Module()
    module.weight = nn.Parameter(weight.clone())
    prune.l1_unstructured(module, "weight", round(share * weight.numel()))
    return module.weight.detach()


def _kept(weight: Tensor, score: Tensor, zeros: int) -> Tensor:
    """The weight without the `zeros` entries of the lowest score."""
    out = weight.flatten().clone()
    out[score.flatten().argsort()[:zeros]] = 0.0
    return out.view_as(weight)


def _by_rows(weight: Tensor, share: float) -> Tensor:
    rows = weight.reshape(-1, weight.shape[-1])
    out = [_kept(row, row.abs(), round(share * len(row))) for row in rows]
    return torch.stack(out).view_as(weight)


def _by_threshold(weight: Tensor, share: float) -> Tensor:
    zeros = round(share * weight.numel())
    if not zeros:
        return weight.clone()
    limit = weight.abs().flatten().sort().values[zeros - 1]
    return weight * (weight.abs() > limit)


PRUNE_SMALLEST = Task(
    name="prune_smallest", chapter=15, difficulty=3, minutes=10, answer=prune_smallest,
    cases=lambda: [
        (torch.tensor([3.0, -1.0]), 0.5), (torch.tensor([1.0, -3.0, 2.0, -0.5]), 0.5),
        (torch.tensor([1.0, -3.0, 2.0, -0.5]), 0.75), (torch.randn(3, 5), 0.0),
        (torch.randn(4, 6), 0.25), (torch.randn(2, 3, 4), 0.75), (torch.randn(4, 2), 1.0),
        (torch.tensor([[2.0, 2.0, -2.0, -2.0]]), 0.5), (torch.randn(10, 4) * 1e-4, 0.7),
        (torch.cat([torch.randn(2, 10), 9 * torch.randn(2, 10)]), 0.4),
    ],
    properties=(
        Property("a weight that is kept is not changed",
                 lambda out, weight, share: bool(((out == weight) | (out == 0)).all())),
        Property("round(share · number of weights) of them are zero",
                 lambda out, weight, share: int((out == 0).sum()) == round(
                     share * weight.numel())),
    ),
    compared=lambda out, *_: out.abs().flatten().sort().values,  # of equals, any may go
    mistakes=(
        Mistake("By value: a weight of −3 is large. It is the size |w| that counts.",
                lambda w, s: _kept(w, w, round(s * w.numel()))),
        Mistake("The *largest* are pruned, which carry the most.",
                lambda w, s: _kept(w, -w.abs(), round(s * w.numel()))),
        Mistake("`share` is what is pruned; you keep that much.",
                lambda w, s: _kept(w, w.abs(), w.numel() - round(s * w.numel()))),
        Mistake("Each row loses the same share: then a row of large weights loses some that are"
                " larger than all of another.", _by_rows),
        Mistake("The threshold is a share of the largest weight; most weights are small, and nearly"
                " all go. Sort, and count.",
                lambda w, s: w * (w.abs() >= s * w.abs().max())),
        Mistake("Of equal weights all go: a threshold cannot tell them apart. Count positions.",
                _by_threshold),
        Mistake("Only the kept ones come back; a pruned weight is 0, and stays in its place.",
                lambda w, s: w.flatten()[w.abs().flatten().argsort()[round(s * w.numel()):]]),
        Mistake("Nothing is pruned.", lambda w, s: w.clone()),
    ),
    hints=(
        "How many weights go? And which?",
        "weight.abs().flatten().argsort() lists the positions from the smallest to the largest.",
        "Set the first round(share · numel) of these positions to 0 in a flat copy, and view_as.",
    ),
)  # fmt: skip


# --- fgsm -----------------------------------------------------------------------------------------


def fgsm(image: Tensor, gradient: Tensor, epsilon: float) -> Tensor:
    return (image + epsilon * gradient.sign()).clamp(0, 1)


FGSM = Task(
    name="fgsm", chapter=15, difficulty=2, minutes=10, answer=fgsm,
    cases=lambda: [
        (torch.tensor([0.5]), torch.tensor([0.001]), 0.1),
        (torch.tensor([0.5]), torch.tensor([-7.0]), 0.1),
        (torch.tensor([0.5, 0.5]), torch.tensor([0.0, 2.0]), 0.25),
        (torch.tensor([0.98, 0.01]), torch.tensor([1.0, -1.0]), 0.05),
        (torch.rand(3, 2, 2), torch.randn(3, 2, 2), 0.03),
        (torch.rand(2, 3, 4, 4), 1e-6 * torch.randn(2, 3, 4, 4), 8 / 255),
        (torch.rand(3, 4, 4), torch.randn(3, 4, 4), 0.5),
    ],
    properties=(
        Property("every pixel stays between 0 and 1",
                 lambda out, *_: bool(((out >= 0) & (out <= 1)).all())),
        Property("no pixel changes by more than ε",
                 lambda out, image, gradient, epsilon: bool(
                     ((out - image).abs() <= epsilon + 1e-5).all())),
    ),
    mistakes=(
        Mistake("Along the gradient, most pixels hardly move. Its *sign* moves each by ε.",
                lambda x, g, e: (x + e * g).clamp(0, 1)),
        Mistake("That makes the loss smaller: to raise it, go *with* the gradient.",
                lambda x, g, e: (x - e * g.sign()).clamp(0, 1)),
        Mistake("A pixel below 0 or above 1 is no pixel: clamp.", lambda x, g, e: x + e * g.sign()),
        Mistake("Scaled to the length ε as a whole, each pixel moves far less than ε.",
                lambda x, g, e: (x + e * g / g.norm().clamp(min=1e-12)).clamp(0, 1)),
        Mistake("Only the change comes back: add it to the picture.",
                lambda x, g, e: (e * g.sign()).clamp(0, 1)),
        Mistake("A pixel without a gradient moves: the sign of 0 is 0.",
                lambda x, g, e: (x + e * (2.0 * (g >= 0) - 1)).clamp(0, 1)),
        Mistake("Divided by its largest entry: only that pixel moves by ε.",
                lambda x, g, e: (x + e * g / g.abs().max()).clamp(0, 1)),
    ),
    hints=(
        "Every pixel moves by ε, up or down, whichever raises the loss.",
        "sign() is 1, −1, or 0; and the result must still be a picture.",
        "(image + epsilon * gradient.sign()).clamp(0, 1).",
    ),
)  # fmt: skip

TASKS = (MIRROR_SIDES, DROP_UNITS, ADAMW_STEP, PRUNE_SMALLEST, FGSM)
