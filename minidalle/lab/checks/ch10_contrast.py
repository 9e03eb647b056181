"""Chapter 10, CLIP: the checks of its exercises."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from minidalle import clip
from minidalle.lab.checks.engine import Mistake, Property, Task

# --- patches --------------------------------------------------------------------------------------


def patches(image: Tensor, p: int) -> Tensor:
    return rearrange(image, "c (h p) (w q) -> (h w) (c p q)", p=p, q=p)


def _image(c: int, height: int, width: int) -> Tensor:
    return (0.7 * torch.arange(c * height * width) - 9).view(c, height, width)


def _square_patches(x: Tensor, p: int) -> Tensor:
    c, side, _ = x.shape
    squares = x.reshape(c, side // p, p, side // p, p).permute(1, 3, 0, 2, 4)
    return squares.reshape(-1, c * p * p)


PATCHES = Task(
    name="patches", chapter=10, difficulty=3, minutes=15, answer=patches,
    cases=lambda: [(_image(1, 1, 1), 1), (_image(1, 2, 2), 1), (_image(1, 4, 4), 2),
                   (_image(3, 4, 4), 2), (_image(3, 6, 6), 2), (_image(3, 2, 6), 2),
                   (_image(2, 6, 3), 3), (_image(4, 4, 8), 4)],
    mistakes=(
        Mistake("`view` cuts the memory into runs of pixels, not the picture into squares.",
                lambda x, p: x.reshape(-1, x.shape[0] * p * p)),
        Mistake("Patches are numbered down the columns; read them along the rows, like the codes.",
                lambda x, p: rearrange(x, "c (h p) (w q) -> (w h) (c p q)", p=p, q=p)),
        Mistake("The colours come last in your patches. Any order can be learned from, but this is"
                " not the one that is asked for.",
                lambda x, p: rearrange(x, "c (h p) (w q) -> (h w) (p q c)", p=p, q=p)),
        Mistake("p is the side of a patch, and you take it for the number of patches across.",
                lambda x, p: rearrange(x, "c (h p) (w q) -> (h w) (c p q)",
                                       h=p, w=p) if x.shape[1] % p == 0 else x),
        Mistake("A picture may be wider than high: height and width have their own names.",
                lambda x, p: _square_patches(x, p)),
        Mistake("Inside a patch rows and columns are swapped.",
                lambda x, p: rearrange(x, "c (h p) (w q) -> (h w) (c q p)", p=p, q=p)),
    ),
    hints=(
        "einops can say it in one line: name the row and the column of a patch, and of a pixel"
        " within it.",
        "The height is (h p), the width (w q).",
        "\"c (h p) (w q) -> (h w) (c p q)\".",
    ),
)  # fmt: skip


# --- cosines --------------------------------------------------------------------------------------


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


COSINES = Task(
    name="cosines", chapter=10, difficulty=1, minutes=10, answer=cosines,
    cases=lambda: [(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])),
                   *[(3 * torch.randn(n, d), torch.randn(m, d))
                     for n, m, d in ((1, 2, 2), (3, 3, 4), (4, 2, 5), (5, 3, 2))]],
    properties=(Property("every cosine lies between −1 and 1",
                         lambda s, *_: bool((s.abs() <= 1 + 1e-5).all())),),
    mistakes=(
        Mistake("Dot products, not cosines: a long vector is similar to everything.",
                lambda a, b: a @ b.T),
        Mistake("The numbers of a column are normalised, and those of a vector should be.",
                lambda a, b: F.normalize(a, dim=0) @ F.normalize(b, dim=0).T),
        Mistake("Only one side has length 1.", lambda a, b: F.normalize(a, dim=-1) @ b.T),
        Mistake("The table is turned: one row per picture, one column per caption.",
                lambda a, b: F.normalize(b, dim=-1) @ F.normalize(a, dim=-1).T),
        Mistake("Divided by the squared length.",
                lambda a, b: (a / a.square().sum(-1, keepdim=True)) @ (
                    b / b.square().sum(-1, keepdim=True)).T),
    ),
    hints=(
        "The cosine is the dot product of two vectors of length one.",
        "F.normalize(…, dim=-1) gives each row the length one.",
        "normalised a, times the transpose of normalised b.",
    ),
)  # fmt: skip


# --- contrastive_loss -----------------------------------------------------------------------------


def contrastive_loss(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    return clip.contrastive_loss(images, texts, torch.as_tensor(scale)).total


def _units(b: int, d: int, scale: float | Tensor) -> tuple:
    return F.normalize(torch.randn(b, d), dim=-1), F.normalize(torch.randn(b, d), dim=-1), scale


def _halves(i, t, s):
    table = s * i @ t.T
    own = torch.arange(len(i))
    return F.cross_entropy(table, own), F.cross_entropy(table.T, own)


CONTRASTIVE_LOSS = Task(
    name="contrastive_loss", chapter=10, difficulty=3, minutes=20, answer=contrastive_loss,
    cases=lambda: [_units(b, d, s) for b, d, s in ((1, 2, 1.0), (2, 2, 1.0), (3, 4, 5.0),
                                                   (6, 3, 10.0), (4, 9, torch.tensor(14.3)),
                                                   (5, 2, torch.tensor(100.0)))],
    properties=(Property("it is never negative", lambda v, *_: float(v) >= -1e-6),),
    trained=("images", "texts", "scale"),  # the scale is learned as well, where it is a tensor
    mistakes=(
        Mistake("In bits: a loss is in nats, by the natural logarithm.",
                lambda i, t, s: sum(_halves(i, t, s)) / 2 / math.log(2)),
        Mistake("At a scale of 100 a softmax underflows, and ln 0 is −∞: take log_softmax or"
                " F.cross_entropy.",
                lambda i, t, s: -((s * i @ t.T).softmax(1).log().diag() + (s * i @ t.T).softmax(
                    0).log().diag()).mean() / 2),
        Mistake("One-sided: each picture finds its caption, but a picture that is near everything"
                " goes unpunished.", lambda i, t, s: _halves(i, t, s)[0]),
        Mistake("One-sided: each caption finds its picture, but not the other way round.",
                lambda i, t, s: _halves(i, t, s)[1]),
        Mistake("The two halves are added; their mean is wanted, so that chance is ln B.",
                lambda i, t, s: sum(_halves(i, t, s))),
        Mistake("Without its scale a cosine can never be sure.",
                lambda i, t, s: sum(_halves(i, t, 1.0)) / 2),
        Mistake("You divide by the scale: it is already an inverse temperature.",
                lambda i, t, s: sum(_halves(i, t, 1 / s)) / 2),
        Mistake("The diagonal is made large, but nothing is compared: the others must become"
                " small.", lambda i, t, s: -(s * (i * t).sum(-1)).mean()),
    ),
    hints=(
        "A table of B × B logits. In each row, and in each column, which entry is the right one?",
        "F.cross_entropy(table, torch.arange(B)) takes care of the rows.",
        "The mean of two cross-entropies: of scale · images @ texts.T, and of its transpose.",
    ),
)  # fmt: skip


# --- retrieval ------------------------------------------------------------------------------------


def retrieval(similarity: Tensor) -> float:
    return (similarity.argmax(1) == torch.arange(len(similarity))).float().mean().item()


def _rank(similarity: Tensor, k: int) -> float:
    own = similarity.diag()[:, None]
    return ((similarity > own).sum(1) < k).float().mean().item()


RETRIEVAL = Task(
    name="retrieval", chapter=10, difficulty=2, minutes=10, answer=retrieval,
    cases=lambda: [(torch.tensor([[1.0]]),), (torch.tensor([[0.0, 1.0], [0.5, 2.0]]),),
                   (torch.tensor([[3.0, 0.0, 1.0], [4.0, 1.0, 0.0], [5.0, 2.0, 3.0]]),),
                   (torch.eye(4),), (torch.randn(6, 6),), (torch.randn(12, 12),),
                   (torch.ones(3, 3),), (torch.zeros(8, 8),), (torch.randn(5, 5) - 9,),
                   (torch.tensor([[0.5, 0.5 + 2**-24], [0.0, 1.0]]),)],
    properties=(
        Property("it is a share, from 0 to 1", lambda v, *_: 0 <= v <= 1),
        Property("a table that says the same of all pairs finds no more than chance, 1/B",
                 lambda v, table: bool((table != table[0, 0]).any()) or v <= 1 / len(table) + 1e-6),
    ),
    compared=lambda v, table: v if (table != table[0, 0]).any() or len(table) == 1 else "at chance",
    mistakes=(
        Mistake("A tie is no find: towers that say the same of every pair would come out perfect."
                " Compare the argmax with the pair's own index.",
                lambda s: (s.diag() >= s.amax(1)).float().mean().item()),
        Mistake("For each caption the best picture; asked is, for each picture, the best caption.",
                lambda s: (s.argmax(0) == torch.arange(len(s))).float().mean().item()),
        Mistake("The number that are right, and a share is wanted.",
                lambda s: (s.argmax(1) == torch.arange(len(s))).float().sum().item()
                if len(s) > 1 else 1.0),
        Mistake("One of the first two is enough for you: that is retrieval at 2.",
                lambda s: _rank(s, 2)),
        Mistake("The mean similarity of the pairs is no retrieval: it does not ask whether another"
                " caption lies nearer.", lambda s: s.diag().mean().item()),
        Mistake("The least similar caption is taken.",
                lambda s: (s.argmin(1) == torch.arange(len(s))).float().mean().item()),
    ),
    hints=(
        "Row i of the table: picture i against all captions. Which column should win?",
        "argmax(1) gives each row's winner.",
        "The share of rows i whose winner is i.",
    ),
)  # fmt: skip

TASKS = (PATCHES, COSINES, CONTRASTIVE_LOSS, RETRIEVAL)
