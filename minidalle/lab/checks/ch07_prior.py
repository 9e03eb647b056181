"""Chapter 07, the transformer prior: the checks of its exercises."""

import torch
from torch import Tensor

from minidalle.lab.checks.engine import Mistake, Property, Task

# --- shift: inputs and targets of one stream ------------------------------------------------------


def shift(stream: Tensor, start: int) -> tuple[Tensor, Tensor]:
    return torch.cat([torch.tensor([start]), stream[:-1]]), stream


SHIFT = Task(
    name="shift", chapter=7, difficulty=2, minutes=10, answer=shift,
    cases=lambda: [(torch.tensor([5]), 0), (torch.tensor([5, 6]), 0),
                   (torch.tensor([3, 1, 4, 1, 5]), 9), (torch.tensor([7, 7, 7]), 1)],
    properties=(Property("inputs and targets are equally long",
                         lambda out, *_: len(out[0]) == len(out[1])),),
    mistakes=(
        Mistake("Input and target are the same: the model has only to copy. The loss will be"
                " wonderful, and the pictures noise.", lambda s, b: (s, s)),
        Mistake("Without a start the first token is never predicted.",
                lambda s, b: (s[:-1], s[1:])),
        Mistake("The target runs behind the input: it predicts the past.",
                lambda s, b: (s, torch.cat([torch.tensor([b]), s[:-1]]))),
        Mistake("The last token is an input too, and predicts nothing: input and target must be"
                " equally long.", lambda s, b: (torch.cat([torch.tensor([b]), s]), s)),
    ),
    hints=(
        "Write the two rows of section 2 under each other.",
        "The target is the stream itself. What has been read when its first token is predicted?",
        "The input is the start token, and then the stream without its last.",
    ),
)  # fmt: skip


# --- place: where in the picture is code i? -------------------------------------------------------


def place(i: int, grid: int) -> tuple[int, int]:
    return divmod(i, grid)


PLACE = Task(
    name="place", chapter=7, difficulty=1, minutes=5, answer=place,
    cases=lambda: [(0, 1), (1, 2), (2, 2), (5, 4), (8, 3), (11, 4), (143, 12)],
    mistakes=(
        Mistake("Row and column are swapped: codes run along a row first.",
                lambda i, w: (i % w, i // w)),
        Mistake("Rows and columns are counted from 0.", lambda i, w: (i // w + 1, i % w + 1)),
        Mistake("A division with a remainder: use // so that the row is a whole number.",
                lambda i, w: (i / w, i % w)),
        Mistake("The row is divided by the whole picture's codes, not by the width.",
                lambda i, w: (i // (w * w), i % w)),
    ),
    hints=(
        "The picture is read like this text.",
        "How many whole rows are full before code i?",
        "(i // grid, i % grid), or divmod.",
    ),
)  # fmt: skip


# --- joint_loss -----------------------------------------------------------------------------------


def joint_loss(text_nll: Tensor, is_word: Tensor, code_nll: Tensor, text_weight: float) -> Tensor:
    text = (text_nll * is_word).sum() / is_word.sum().clamp(min=1)
    return text_weight * text + (1 - text_weight) * code_nll.mean()


def _losses(b: int, t: int, n: int, weight: float = 1 / 8) -> tuple:
    is_word = torch.arange(t)[None] < torch.randint(1, t + 1, (b, 1))
    return 3 * torch.rand(b, t), is_word, 3 * torch.rand(b, n), weight


def _empty(t, w, c, a):
    """A mean over words, without a guard where there are none."""
    return a * (t * w).sum() / w.sum() + (1 - a) * c.mean()


JOINT_LOSS = Task(
    name="joint_loss", chapter=7, difficulty=3, minutes=15, answer=joint_loss,
    cases=lambda: [
        (torch.tensor([[2.0]]), torch.tensor([[True]]), torch.tensor([[1.0]]), 1 / 8),
        (torch.tensor([[2.0, 9.0]]), torch.tensor([[True, False]]), torch.tensor([[1.0, 3.0]]),
         1 / 8),
        (torch.tensor([[2.0, 1.0]]), torch.tensor([[False, False]]), torch.tensor([[1.0, 3.0]]),
         1 / 8),  # every caption of the batch was dropped
        (torch.tensor([[2.0], [3.0]]), torch.tensor([[False], [True]]),
         torch.tensor([[1.0], [4.0]]), 0.25),
        _losses(2, 4, 9), _losses(3, 5, 16), _losses(4, 6, 4, 0.3),
    ],
    trained=("text_nll", "code_nll"),
    mistakes=(
        Mistake("Padding is a target for you; the model would spend its text loss on it.",
                lambda t, w, c, a: a * t.mean() + (1 - a) * c.mean()),
        Mistake("Where every caption of the batch is empty there is no word to divide by, and 0 / 0"
                " is nan: is_word.sum().clamp(min=1).", _empty),
        Mistake("Masked, but divided by all positions: the shorter the caption, the smaller its"
                " loss.", lambda t, w, c, a: a * (t * w).mean() + (1 - a) * c.mean()),
        Mistake("The weights are swapped: an eighth for the text, the rest for the picture.",
                lambda t, w, c, a: joint_loss(t, w, c, 1 - a)),
        Mistake("The weights do not add up to one: the picture has 1 − w.",
                lambda t, w, c, a: joint_loss(t, w, c, a) + a * c.mean()),
        Mistake("The weight is an argument: it need not be an eighth.",
                lambda t, w, c, a: joint_loss(t, w, c, 1 / 8)),
        Mistake("A mean of each caption, and then of the captions, gives a word of a short caption"
                " more weight: all words count alike.",
                lambda t, w, c, a: a * ((t * w).sum(1) / w.sum(1).clamp(min=1)).mean() + (
                    1 - a) * c.mean()),
        Mistake("One mean over all positions lets the 144 codes drown the words; each part is"
                " averaged by itself first.",
                lambda t, w, c, a: (a * (t * w).sum() + (1 - a) * c.sum()) / (
                    w.sum() + c.numel())),
    ),
    hints=(
        "Two means, each over its own kind, then a weighted sum.",
        "The text's mean counts words alone: sum over words, divided by their number.",
        "w · (text_nll · is_word).sum() / is_word.sum().clamp(min=1) + (1 − w) · code_nll.mean().",
    ),
)  # fmt: skip


# --- block: the order of norm, function and sum ---------------------------------------------------


def block(x: Tensor, attend, think, norm) -> Tensor:
    x = x + attend(norm(x))
    return x + think(norm(x))


def _attend(x: Tensor) -> Tensor:
    return x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]


def _think(x: Tensor) -> Tensor:
    return torch.relu(x) - 0.3 * x.square()


def _norm(x: Tensor) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


def _other_norm(x: Tensor) -> Tensor:
    return x / (1 + x.square().mean(-1, keepdim=True)).sqrt()


BLOCK = Task(
    name="block", chapter=7, difficulty=2, minutes=10, answer=block,
    cases=lambda: [(torch.randn(s, d), _attend, _think, _norm) for s, d in ((1, 2), (2, 4),
                                                                            (5, 8))]
    + [(torch.randn(3, 4), _think, torch.sin, _other_norm)],
    trained=("x",),
    mistakes=(
        Mistake("The norm stands after the sum: deep stacks of these do not train without care."
                " It belongs inside.",
                lambda x, a, t, n: (lambda y: n(y + t(y)))(n(x + a(x)))),
        Mistake("Nothing is added: without x + … the road for the gradient is cut.",
                lambda x, a, t, n: t(n(a(n(x))))),
        Mistake("Both halves read the same x. The second reads what the first has written.",
                lambda x, a, t, n: x + a(n(x)) + t(n(x))),
        Mistake("First look around, then think: the two halves are swapped.",
                lambda x, a, t, n: (lambda y: y + a(n(y)))(x + t(n(x)))),
        Mistake("The second half lacks its norm.",
                lambda x, a, t, n: (lambda y: y + t(y))(x + a(n(x)))),
    ),
    hints=(
        "Two lines, one for each half, as in section 1.",
        "Each line adds something to x, and what it adds is computed from norm(x).",
        "x = x + attend(norm(x)); then the same with think, on the new x.",
    ),
)  # fmt: skip


# --- count_parameters -----------------------------------------------------------------------------


def count_parameters(width: int, layers: int) -> int:
    return 12 * layers * width**2


COUNT_PARAMETERS = Task(
    name="count_parameters", chapter=7, difficulty=2, minutes=10, answer=count_parameters,
    cases=lambda: [(1, 1), (2, 1), (3, 2), (192, 6), (3968, 64)],
    mistakes=(
        Mistake("The MLP is left out: 4 D² is the attention alone.",
                lambda d, n: 4 * n * d**2),
        Mistake("Three matrices for questions, keys and values, and a fourth for the answer: you"
                " have 3 D² where it is 4 D².", lambda d, n: 11 * n * d**2),
        Mistake("The MLP goes to 4 D *and back*: two matrices of 4 D² each, not one.",
                lambda d, n: (4 + 4) * n * d**2),
        Mistake("A matrix has D × D numbers, so the width counts twice.",
                lambda d, n: 12 * n * d),
    ),
    hints=(
        "Count the matrices of one block, and how large each is. Biases and norms hardly count.",
        "Attention: four of D × D. The MLP: D × 4 D, and 4 D × D.",
        "(4 + 8) · D² · layers.",
    ),
)  # fmt: skip

TASKS = (SHIFT, PLACE, JOINT_LOSS, BLOCK, COUNT_PARAMETERS)
