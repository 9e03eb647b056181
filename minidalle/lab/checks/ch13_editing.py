"""Chapter 13, edit and repair: the checks of its exercises."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle import editing
from minidalle.lab.checks.engine import Mistake, Property, Task

_INF = float("inf")


def _probabilities(p: Tensor, *_) -> bool:
    return bool((p >= 0).all()) and torch.allclose(p.sum(), torch.ones(()), atol=1e-4)


# --- evidence: which codes a cell may have --------------------------------------------------------


def evidence(codes: Tensor, free: Tensor, num_codes: int) -> Tensor:
    return editing.keep(codes, free, num_codes)


def _region(grid: int, num_codes: int, share: float = 0.5) -> tuple[Tensor, Tensor, int]:
    return torch.randint(num_codes, (grid, grid)), torch.rand(grid, grid) < share, num_codes


def _table(
    codes: Tensor, free: Tensor, k: int, chosen: float, other: float, drawn: float
) -> Tensor:
    """Evidence with one number for a kept cell's code, one for its other codes, one if free."""
    rows = torch.where(F.one_hot(codes.flatten(), k).bool(), chosen, other)
    return rows.masked_fill(free.flatten()[:, None], drawn)


EVIDENCE = Task(
    name="evidence", chapter=13, difficulty=2, minutes=15, answer=evidence,
    cases=lambda: [
        (torch.tensor([[1]]), torch.tensor([[False]]), 3),
        (torch.tensor([[1]]), torch.tensor([[True]]), 2),
        (torch.tensor([[0, 2], [1, 1]]), torch.tensor([[False, True], [False, False]]), 3),
        _region(2, 4), _region(3, 3), _region(3, 6, 0.2), _region(4, 3, 0.8),
        (torch.randint(5, (2, 3)), torch.tensor([[True, False, False], [False, False, True]]), 5),
        (torch.zeros(3, 3, dtype=torch.int64), torch.ones(3, 3, dtype=torch.bool), 2),
    ],
    properties=(
        Property("some code is possible in every cell",
                 lambda out, *_: bool((out > -_INF).any(-1).all())),
    ),
    axes=("code", "cell"),
    mistakes=(
        Mistake("Kept and free are exchanged: `free` is True where the model shall draw.",
                lambda c, f, k: _table(c, ~f, k, 0, -_INF, 0)),
        Mistake("Those are probabilities. Evidence is added to logits, so it is a logarithm: 0 for"
                " what is certain, −∞ for what is impossible.",
                lambda c, f, k: _table(c, f, k, 1, 0, 1)),
        Mistake("The code that is kept is ruled out, and all others are allowed.",
                lambda c, f, k: _table(c, f, k, -_INF, 0, 0)),
        Mistake("A free cell has −∞ for every code, so no code is left to be drawn. Nothing is"
                " known of it: 0.", lambda c, f, k: _table(c, f, k, 0, -_INF, -_INF)),
        Mistake("Kept cells say nothing either: with 0 in place of −∞ every code stays possible.",
                lambda c, f, k: torch.zeros(c.numel(), k)),
        Mistake("The free cells are ignored: their old codes are kept as well.",
                lambda c, f, k: _table(c, torch.zeros_like(f), k, 0, -_INF, 0)),
        Mistake("The cells are read column by column. Raster order runs along the rows.",
                lambda c, f, k: _table(c.T, f.T, k, 0, -_INF, 0)),
    ),
    hints=(
        "One row per cell, one number per code: what does an observer of the cell say of it?",
        "A kept cell: 0 for its code, −∞ for all others. A free cell: 0 for all.",
        "Start with a table full of −inf, set 0 at (cell, its code), then 0 in the rows of"
        " free.flatten().",
    ),
)  # fmt: skip


# --- repair_cell: the noisy-channel posterior of one cell -----------------------------------------


def repair_cell(square: Tensor, looks: Tensor, log_prior: Tensor, sigma: float) -> Tensor:
    return (log_prior - (looks - square).square().sum(-1) / (2 * sigma**2)).softmax(-1)


def _cell(p: int, k: int, sigma: float, near: int = 0) -> tuple[Tensor, Tensor, Tensor, float]:
    """A noisy square of one of k codes, the codes' looks, the prior, the noise."""
    looks = torch.rand(k, p)
    square = looks[near] + sigma * torch.randn(p)
    return square, looks, torch.randn(k).log_softmax(-1), sigma


def _channel(score, log_prior=lambda p: p):
    """A posterior from another score of the squared distances, K × P, and sigma."""
    return lambda x, looks, prior, s: (
        log_prior(prior) + score((looks - x).square(), s)
    ).softmax(-1)  # fmt: skip


REPAIR_CELL = Task(
    name="repair_cell", chapter=13, difficulty=3, minutes=20, answer=repair_cell,
    cases=lambda: [
        (torch.tensor([0.5]), torch.tensor([[0.5], [0.8]]), torch.tensor([0.5, 0.5]).log(), 0.5),
        (torch.tensor([0.4]), torch.tensor([[0.0], [1.0]]), torch.tensor([0.1, 0.9]).log(), 0.7),
        _cell(3, 2, 0.4), _cell(3, 4, 0.3, 2), _cell(6, 3, 0.5, 1), _cell(12, 5, 0.6, 4),
        (torch.rand(4), torch.rand(3, 4), torch.tensor([0.0, 0.5, 0.5]).log(), 0.3),
        (torch.ones(48), torch.linspace(0, 0.2, 4)[:, None].expand(4, 48).contiguous(),
         torch.zeros(4).log_softmax(-1), 0.05),
    ],
    properties=(Property("the probabilities are not negative and sum to 1", _probabilities),),
    mistakes=(
        Mistake("The prior has no say: that is the likelihood alone.",
                _channel(lambda d, s: -d.sum(-1) / (2 * s**2), lambda p: 0 * p.exp())),
        Mistake("σ does not occur: divide the squared distance by 2σ². The noisier a picture, the"
                " less its pixels count.",
                _channel(lambda d, s: -d.sum(-1))),
        Mistake("The 2 of 2σ² is missing.", _channel(lambda d, s: -d.sum(-1) / s**2)),
        Mistake("σ is the standard deviation; a Gaussian divides by its *square*.",
                _channel(lambda d, s: -d.sum(-1) / (2 * s))),
        Mistake("The mean over pixels in place of the sum: every pixel is an observation of its own"
                " and their logarithms add up.", _channel(lambda d, s: -d.mean(-1) / (2 * s**2))),
        Mistake("The distance is not squared: a Gaussian has |x − look|² in its exponent.",
                _channel(lambda d, s: -d.sum(-1).sqrt() / (2 * s**2))),
        Mistake("The sign is wrong: the codes *farthest* from the square win.",
                _channel(lambda d, s: d.sum(-1) / (2 * s**2))),
        Mistake("Prior probabilities are added to logarithms: multiply probabilities, or add"
                " logarithms.",
                _channel(lambda d, s: -d.sum(-1) / (2 * s**2), lambda p: p.exp())),
        Mistake("exp(−6000) is 0 on any computer, and 0 / 0 is nan: stay with logarithms until"
                " the softmax, which subtracts the largest.",
                lambda x, looks, p, s: (lambda q: q / q.sum())(
                    p.exp() * (-(looks - x).square().sum(-1) / (2 * s**2)).exp())),
        Mistake("Those are not normalised: the probabilities of all codes sum to 1.",
                lambda x, looks, p, s: (p - (looks - x).square().sum(-1) / (2 * s**2)).exp()),
    ),
    hints=(
        "Bayes: posterior ∝ likelihood · prior. In logarithms, a sum.",
        "ln p(square | code) = −|square − look|² / 2σ² up to a constant; sum over pixels.",
        "softmax(log_prior − ((looks − square)²).sum(−1) / (2 σ²)).",
    ),
)  # fmt: skip


# --- blend: the old pixels outside a region -------------------------------------------------------


def blend(before: Tensor, after: Tensor, free: Tensor, factor: int) -> Tensor:
    return torch.where(_pixels(free, factor)[..., None], after, before)


def _pixels(free: Tensor, factor: int) -> Tensor:
    """A mask of cells as a mask of pixels."""
    return free.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def _pictures(h: int, w: int, factor: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Two pictures, and the cells in which the second is wanted."""
    before, after = (torch.randint(256, (h * factor, w * factor, 3)) for _ in range(2))
    return before, after, torch.rand(h, w) < 0.5, factor


def _mixed(mask):
    """A blend by another mask of pixels, made from the free cells and the factor."""
    return lambda b, a, free, f: torch.where(mask(free, f)[..., None], a, b)


def _grown(free: Tensor) -> Tensor:
    """The free cells and those beside them."""
    return F.max_pool2d(free[None].float(), 3, 1, 1)[0].bool()


BLEND = Task(
    name="blend", chapter=13, difficulty=2, minutes=15, answer=blend,
    cases=lambda: [
        (torch.ones(2, 2, 3).long(), 9 * torch.ones(2, 2, 3).long(), torch.tensor([[True]]), 2),
        (torch.ones(2, 2, 3).long(), 9 * torch.ones(2, 2, 3).long(), torch.tensor([[False]]), 2),
        (*_pictures(2, 2, 2)[:2], torch.tensor([[True, False], [False, False]]), 2),
        (*_pictures(2, 2, 1)[:2], torch.tensor([[False, True], [False, False]]), 1),
        (*_pictures(3, 3, 2)[:2], torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]]).bool(), 2),
        _pictures(2, 3, 4), _pictures(4, 4, 3), _pictures(3, 3, 4),
    ],
    mistakes=(
        Mistake("Inside and outside are exchanged: the new pixels belong into the free cells.",
                _mixed(lambda m, f: ~_pixels(m, f))),
        Mistake("That is the whole new picture, and the decoder has changed pixels beside the"
                " region too.", lambda b, a, free, f: a.clone()),
        Mistake("The grid is laid out again and again (`tile`); each *cell* covers f × f pixels:"
                " repeat its entry.", _mixed(lambda m, f: m.tile(f, f))),
        Mistake("Rows and columns are exchanged.",
                _mixed(lambda m, f: _pixels(m.T.reshape(m.shape), f))),
        Mistake("The mean of both pictures in the region shows both things at once.",
                lambda b, a, free, f: torch.where(_pixels(free, f)[..., None], (a + b) // 2, b)),
        Mistake("The region has grown by a cell: what stands beside it must stay as it was.",
                _mixed(lambda m, f: _pixels(_grown(m), f))),
    ),
    hints=(
        "From a mask of cells to a mask of pixels: each entry becomes f × f entries.",
        "repeat_interleave, once along each axis.",
        "torch.where(mask[..., None], after, before): the new axis is that of the colours.",
    ),
)  # fmt: skip


# --- importance_weights: by how likely what comes later was ---------------------------------------


def importance_weights(log_p: Tensor, kept: Tensor) -> Tensor:
    return (log_p * kept).sum(-1).softmax(0)


def _candidates(n: int, cells: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """ln p of each candidate's codes, n × N, and which cells were kept."""
    kept = torch.rand(cells) < 0.5
    kept[0], kept[-1] = False, True
    return -scale * torch.rand(n, cells), kept


IMPORTANCE_WEIGHTS = Task(
    name="importance_weights", chapter=13, difficulty=3, minutes=20, answer=importance_weights,
    cases=lambda: [
        (torch.tensor([[0.5, 0.9], [0.5, 0.1]]).log(), torch.tensor([False, True])),
        (torch.tensor([[0.9, 0.2], [0.1, 0.6]]).log(), torch.tensor([False, True])),
        _candidates(2, 4), _candidates(4, 3), _candidates(3, 6), _candidates(5, 9, 3.0),
        (-torch.rand(3, 4), torch.tensor([False, False, False, False])),
        (-500 - 900 * torch.rand(3, 6), torch.tensor([False, True, True, False, True, True])),
    ],
    properties=(Property("the weights are not negative and sum to 1", _probabilities),),
    mistakes=(
        Mistake("All cells are counted. The codes that were *drawn* came from the prior already;"
                " counted once more, likely drawings are preferred twice.",
                lambda p, kept: p.sum(-1).softmax(0)),
        Mistake("Those are the cells that were drawn. What must be weighed is how likely the *kept*"
                " codes were.", lambda p, kept: (p * ~kept).sum(-1).softmax(0)),
        Mistake("The mean over cells in place of the sum: probabilities multiply, so their"
                " logarithms add up.",
                lambda p, kept: ((p * kept).sum(-1) / kept.sum().clamp(min=1)).softmax(0)),
        Mistake("Those are logarithms still: exponentiate them and divide by their sum (softmax).",
                lambda p, kept: (p * kept).sum(-1)),
        Mistake("The probability of a picture is the *product* over its cells, not their sum.",
                lambda p, kept: (lambda q: q / q.sum().clamp(min=1e-30))(
                    (p.exp() * kept).sum(-1))),
        Mistake("Only the first kept cell is weighed; all of them count.",
                lambda p, kept: p[:, kept.int().argmax()].softmax(0)),
        Mistake("exp(−3000) is 0 on any computer, and 0 / 0 is nan: subtract the largest first,"
                " as softmax does.",
                lambda p, kept: (lambda q: q / q.sum())((p * kept).sum(-1).exp())),
        Mistake("The best gets all of the weight; the others count as well, by their share.",
                lambda p, kept: F.one_hot(
                    (p * kept).sum(-1).argmax(), len(p)).float()),
    ),
    hints=(
        "What has the drawing of a candidate not looked at?",
        "Add ln p over the kept cells: one number per candidate.",
        "(log_p * kept).sum(-1).softmax(0).",
    ),
)  # fmt: skip


# --- caption_posterior: Bayes' rule on captions ---------------------------------------------------


def caption_posterior(log_p: Tensor, prior: Tensor) -> Tensor:
    return (log_p.sum(-1) + prior.log()).softmax(0)


def _read(n: int, cells: int, scale: float = 0.5) -> tuple[Tensor, Tensor]:
    """ln p of a picture's codes under each of n captions, and how common each caption is."""
    return -scale * torch.rand(n, cells), torch.rand(n).softmax(0)


CAPTION_POSTERIOR = Task(
    name="caption_posterior", chapter=13, difficulty=2, minutes=15, answer=caption_posterior,
    cases=lambda: [
        (torch.tensor([[0.5], [0.25]]).log(), torch.tensor([0.5, 0.5])),
        (torch.tensor([[0.5], [0.25]]).log(), torch.tensor([0.1, 0.9])),
        _read(2, 3), _read(3, 2), _read(4, 6), _read(5, 9, 1.0),
        (-torch.rand(3, 4), torch.tensor([0.5, 0.0, 0.5])),
        (-8 - 4 * torch.rand(3, 144), torch.tensor([0.2, 0.3, 0.5])),
    ],
    properties=(Property("the probabilities are not negative and sum to 1", _probabilities),),
    mistakes=(
        Mistake("The prior has no say: a caption that nobody writes must lose.",
                lambda p, prior: p.sum(-1).softmax(0)),
        Mistake("The prior's probability is added to a logarithm: add its logarithm.",
                lambda p, prior: (p.sum(-1) + prior).softmax(0)),
        Mistake("The mean over codes in place of the sum: 144 codes are 144 observations.",
                lambda p, prior: (p.mean(-1) + prior.log()).softmax(0)),
        Mistake("That is p(codes | caption), which asks how usual the picture is. Bayes' rule"
                " divides by the sum over all captions.",
                lambda p, prior: p.sum(-1).exp()),
        Mistake("Only the best caption is named. Asked is how probable each is.",
                lambda p, prior: F.one_hot(
                    (p.sum(-1) + prior.log()).argmax(), len(prior)).float()),
        Mistake("The softmax runs over the codes of each caption; it is the *captions* that"
                " compete.", lambda p, prior: (p.softmax(-1).sum(-1) * prior)),
        Mistake("exp(−1400) is 0 on any computer, and 0 / 0 is nan: stay with logarithms until"
                " the softmax.",
                lambda p, prior: (lambda q: q / q.sum())(p.sum(-1).exp() * prior)),
    ),
    hints=(
        "The picture's probability under a caption is a product over its codes.",
        "ln p(codes | caption) + ln p(caption), one number per caption; then normalise.",
        "(log_p.sum(-1) + prior.log()).softmax(0).",
    ),
)  # fmt: skip


# --- noise_level: what is left when the nearest looks are taken off -------------------------------


def noise_level(squares: Tensor, looks: Tensor) -> float:
    apart = (squares[:, None] - looks[None]).square().mean(-1)  # N K
    return apart.min(1).values.median().sqrt().item()


def _noisy(n: int, p: int, k: int, sigma: float) -> tuple[Tensor, Tensor]:
    """An odd number of squares, each a code's look with noise; the last shows something new."""
    looks = torch.rand(k, p)
    squares = looks[torch.randint(k, (n,))] + sigma * torch.randn(n, p)
    squares[-1] = 3.0 + torch.rand(p)
    return squares, looks


def _spread(of_code, of_squares, root=True):
    """Another way from the squared differences, N K P, to one number."""

    def answer(squares: Tensor, looks: Tensor) -> float:
        found = of_squares(of_code((squares[:, None] - looks[None]).square()))
        return (found.sqrt() if root else found).item()

    return answer


def _nearest(squared: Tensor) -> Tensor:
    return squared.mean(-1).min(1).values


NOISE_LEVEL = Task(
    name="noise_level", chapter=13, difficulty=3, minutes=20, answer=noise_level,
    cases=lambda: [
        (torch.tensor([[0.5, 0.5]]), torch.tensor([[0.4, 0.6], [0.0, 0.0]])),
        (torch.tensor([[0.1], [0.2], [3.0]]), torch.tensor([[0.0], [1.0]])),
        _noisy(3, 4, 2, 0.1), _noisy(5, 3, 4, 0.2), _noisy(7, 12, 3, 0.05), _noisy(9, 48, 5, 0.3),
        _noisy(5, 6, 1, 0.2), _noisy(5, 6, 3, 1.5),
    ],
    properties=(Property("a standard deviation is not negative", lambda s, *_: s >= 0),),
    mistakes=(
        Mistake("The mean over squares: one square that no code shows spoils it. The median does"
                " not care.", _spread(_nearest, lambda d: d.mean())),
        Mistake("The sum over pixels in place of the mean: the noise of *one* pixel is asked for.",
                _spread(lambda d: d.sum(-1).min(1).values, lambda d: d.median())),
        Mistake("That is the variance; its square root is missing.",
                _spread(_nearest, lambda d: d.median(), root=False)),
        Mistake("The distance to the *farthest* look: take the nearest, which is probably what"
                " was meant.", _spread(lambda d: d.mean(-1).max(1).values, lambda d: d.median())),
        Mistake("The mean over all codes: a square shows one of them.",
                _spread(lambda d: d.mean(-1).mean(1), lambda d: d.median())),
        Mistake("The minimum runs over the squares: each *square* has a nearest code.",
                _spread(lambda d: d.mean(-1).min(0).values, lambda d: d.median())),
        Mistake("The nearest is looked for pixel by pixel. A code is chosen for a whole square.",
                _spread(lambda d: d.min(1).values.mean(-1), lambda d: d.median())),
    ),
    hints=(
        "If you knew each square's code, what would be left of the square?",
        "Mean squared difference to the nearest look, for each square; then a middle value.",
        "sqrt of the median over squares of the minimum over looks of the mean over pixels.",
    ),
)  # fmt: skip

TASKS = (EVIDENCE, REPAIR_CELL, BLEND, IMPORTANCE_WEIGHTS, CAPTION_POSTERIOR, NOISE_LEVEL)
