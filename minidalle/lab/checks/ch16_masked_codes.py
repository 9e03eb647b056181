"""Chapter 16, masked codes: the checks of its exercises."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minidalle.baselines import masked_sampling
from minidalle.lab.checks.engine import Mistake, Property, Task

# --- masked_loss: what is predicted, and what is not ----------------------------------------------


def masked_loss(logits: Tensor, codes: Tensor, hidden: Tensor) -> Tensor:
    return F.cross_entropy(logits[hidden], codes[hidden])


def _picture(cells: int, k: int, share: float = 0.5, size: float = 1.0) -> tuple:
    """Logits N K, codes N, and which are hidden, at least one and not all."""
    hidden = torch.rand(cells) < share
    hidden[0], hidden[-1] = True, cells == 1
    return size * torch.randn(cells, k), torch.randint(k, (cells,)), hidden


def _nll(logits: Tensor, codes: Tensor) -> Tensor:
    return F.cross_entropy(logits, codes, reduction="none")


MASKED_LOSS = Task(
    name="masked_loss", chapter=16, difficulty=2, minutes=15, answer=masked_loss,
    trained=("logits",),
    cases=lambda: [
        (torch.tensor([[0.0, 0.0]]), torch.tensor([0]), torch.tensor([True])),
        (torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([1, 0]), torch.tensor([True, False])),
        _picture(4, 3), _picture(5, 2, 0.8), _picture(6, 4, 0.2), _picture(9, 3),
        (torch.randn(3, 5), torch.tensor([0, 4, 2]), torch.ones(3, dtype=torch.bool)),
        _picture(16, 6, 0.7), _picture(6, 3, 0.6, 200.0),
    ],
    mistakes=(
        Mistake("Visible codes are counted as well. They stand in the input, so the model reads"
                " them off, and learns nothing from them.",
                lambda a, c, h: F.cross_entropy(a, c)),
        Mistake("Hidden and visible are exchanged: `hidden` is True where the code is to be"
                " predicted.", lambda a, c, h: _nll(a, c)[~h].sum() / (~h).sum().clamp(min=1)),
        Mistake("The sum over the hidden codes: divide by their number, or a picture with many"
                " counts more with every batch size.", lambda a, c, h: (_nll(a, c) * h).sum()),
        Mistake("The sum over hidden codes is divided by the number of *all* codes.",
                lambda a, c, h: (_nll(a, c) * h).mean()),
        Mistake("The logarithm is missing: that is minus the mean probability.",
                lambda a, c, h: -a.softmax(-1).gather(1, c[:, None])[:, 0][h].mean()),
        Mistake("The sign is wrong: a loss is *minus* ln p.",
                lambda a, c, h: -_nll(a, c)[h].mean()),
        Mistake("In bits. The course counts in nats: the natural logarithm.",
                lambda a, c, h: _nll(a, c)[h].mean() / math.log(2)),
        Mistake("The softmax runs over the cells; it is the *codes* of one cell that compete.",
                lambda a, c, h: F.nll_loss(a[h].log_softmax(0), c[h])),
        Mistake("ln 0 is −∞: log_softmax, not the logarithm of a softmax.",
                lambda a, c, h: F.nll_loss(a[h].softmax(-1).log(), c[h])),
    ),
    hints=(
        "Which cells does the model have to guess? Only those may count.",
        "A boolean mask picks rows: logits[hidden] has one row per hidden code.",
        "F.cross_entropy of the hidden rows and their codes.",
    ),
)  # fmt: skip


# --- hidden_counts: the cosine law, one stratum per picture ---------------------------------------


def hidden_counts(offsets: list, cells: int) -> list:
    n = len(offsets)
    us = [(k + offset) / n for k, offset in enumerate(offsets)]
    return [math.ceil(math.cos(math.pi * u / 2) * cells) for u in us]


def _counts(share, at=lambda k, r, n: (k + r) / n, whole=math.ceil):
    """Another law, another place of u, or another way to a whole number."""
    return lambda offsets, cells: [
        whole(share(at(k, r, len(offsets))) * cells) for k, r in enumerate(offsets)
    ]


def _cosine(u: float) -> float:
    return math.cos(math.pi * u / 2)


HIDDEN_COUNTS = Task(
    name="hidden_counts", chapter=16, difficulty=2, minutes=10, answer=hidden_counts,
    cases=lambda: [
        ([0.0], 10), ([0.5], 3), ([0.97], 9), ([0.3, 0.6], 16), ([0.9, 0.1, 0.5], 7),
        ([0.2, 0.7, 0.4, 0.95], 144), ([0.5] * 8, 144), ([0.31, 0.82, 0.05, 0.47, 0.99], 36),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.99], 1),
    ],
    properties=(
        Property("every picture has at least one hidden code, and no more than it has cells",
                 lambda out, offsets, cells: all(1 <= count <= cells for count in out)),
    ),
    mistakes=(
        Mistake("No strata: each offset is a u of its own, so a batch may have only large shares,"
                " or only small ones. Picture k's u lies between k/n and (k + 1)/n.",
                _counts(_cosine, lambda k, r, n: r)),
        Mistake("Only k is divided by n: the offset reaches across strata. (k + offset) / n.",
                _counts(_cosine, lambda k, r, n: min(1, k / n + r))),
        Mistake("The offset is ignored: each batch has the same shares.",
                _counts(_cosine, lambda k, r, n: k / n)),
        Mistake("Rounded down, the last picture may have nothing hidden, and nothing to learn.",
                _counts(_cosine, whole=math.floor)),
        Mistake("Rounded to the nearest: the last picture may have nothing hidden.",
                _counts(_cosine, whole=round)),
        Mistake("That is the number of *visible* codes.", _counts(lambda u: 1 - _cosine(u))),
        Mistake("A sine, which is small at first: then few pictures have most codes hidden, and"
                " the first pass of a drawing starts with all of them hidden.",
                _counts(lambda u: math.sin(math.pi * u / 2))),
        Mistake("A linear law: cos(πu/2) hides more than 1 − u does.", _counts(lambda u: 1 - u)),
        Mistake("The half is missing: cos(πu) is negative for u above a half.",
                _counts(lambda u: math.cos(math.pi * u))),
        Mistake("The squared cosine falls too fast.", _counts(lambda u: _cosine(u) ** 2)),
    ),
    hints=(
        "First the u of each picture, then its share, then a whole number.",
        "Picture k of n has u = (k + its offset) / n.",
        "math.ceil(math.cos(math.pi * u / 2) * cells), for each u.",
    ),
)  # fmt: skip


# --- impossible_share: what independence costs ----------------------------------------------------


def impossible_share(joint: Tensor) -> float:
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return product[joint == 0].sum().item()


def _joint(rows: int, columns: int, zeros: float = 0.5) -> tuple[Tensor]:
    """A joint distribution in which some pairs are impossible."""
    table = torch.rand(rows, columns) * (torch.rand(rows, columns) >= zeros)
    table[0, 0] = 1.0
    return (table / table.sum(),)


def _marginals(joint: Tensor) -> tuple[Tensor, Tensor]:
    return joint.sum(1), joint.sum(0)


IMPOSSIBLE_SHARE = Task(
    name="impossible_share", chapter=16, difficulty=2, minutes=10, answer=impossible_share,
    cases=lambda: [
        (torch.tensor([[1.0]]),), (torch.tensor([[0.5, 0.0], [0.0, 0.5]]),),
        (torch.tensor([[0.25, 0.25], [0.25, 0.25]]),), (torch.tensor([[0.6, 0.0], [0.1, 0.3]]),),
        (torch.tensor([[0.2, 0.0, 0.1], [0.0, 0.7, 0.0]]),), (torch.eye(4) / 4,), _joint(3, 3),
        _joint(2, 5), _joint(4, 3, 0.3), _joint(5, 5, 0.7), (torch.eye(40) / 40,),
    ],
    properties=(Property("a probability lies between 0 and 1",
                         lambda out, joint: -1e-6 <= out <= 1 + 1e-6),),
    mistakes=(
        Mistake("That is the share of *pairs* that are impossible, each counted once. Asked is how"
                " often they are drawn.", lambda p: (p == 0).float().mean().item()),
        Mistake("The joint itself never draws an impossible pair. Independent draws come from the"
                " product of the marginals.", lambda p: p[p == 0].sum().item()),
        Mistake("That is the share of *possible* pairs.", lambda p: 1 - impossible_share(p)),
        Mistake("That is how far the product is from the joint in all (the total variation), also"
                " where both pairs are possible.",
                lambda p: ((p - torch.outer(*_marginals(p))).abs().sum() / 2).item()),
        Mistake("One marginal is used twice: rows and columns have one each.",
                lambda p: (lambda rows, columns: torch.outer(
                    rows, rows[:1].expand(len(columns)))[p == 0].sum().item())(*_marginals(p))),
        Mistake("The marginals are exchanged: sum over columns for the row's, and the other way"
                " round.", lambda p: (torch.outer(p.sum(0), p.sum(1)).reshape(p.shape)[
                    p == 0]).sum().item()),
    ),
    hints=(
        "If both are drawn at once, neither knows of the other. What is each one's probability?",
        "Marginals: sums over columns and over rows. Independent: their product.",
        "Multiply joint.sum(1, keepdim=True) and joint.sum(0, keepdim=True); add up where the joint"
        " is 0.",
    ),
)  # fmt: skip


# --- reveal_counts: how many codes a pass draws ---------------------------------------------------


def reveal_counts(cells: int, passes: int) -> list:
    left = [cells, *masked_sampling.schedule(cells, passes)]
    return [a - b for a, b in itertools.pairwise(left)]


def _reveal(rest, least=True):
    """Another law of how many are hidden after pass t of T, as a share."""

    def answer(cells: int, passes: int) -> list:
        drawn, left = [], cells
        for t in range(1, passes + 1):
            now = math.floor(rest(t, passes) * cells)
            now = min(now, left - 1) if least else now
            drawn.append(left - now)
            left = now
        return drawn

    return answer


def _share(t: float, passes: int) -> float:
    return math.cos(math.pi * t / (2 * passes))


REVEAL_COUNTS = Task(
    name="reveal_counts", chapter=16, difficulty=3, minutes=15, answer=reveal_counts,
    cases=lambda: [
        (1, 1), (2, 1), (2, 2), (5, 2), (9, 9), (10, 3), (36, 6), (36, 12), (144, 1), (144, 8),
        (144, 16), (144, 100), (144, 144), (17, 16),
    ],
    properties=(
        Property("every code is drawn once", lambda out, cells, passes: sum(out) == cells),
        Property("every pass draws at least one code", lambda out, *_: min(out) >= 1),
        Property("there are as many numbers as passes", lambda out, cells, n: len(out) == n),
    ),
    mistakes=(
        Mistake("Those are the codes still hidden after each pass; asked is how many it draws.",
                lambda n, passes: masked_sampling.schedule(n, passes)),
        Mistake("Equally many in each pass. At first little is known, so few are drawn at once.",
                _reveal(lambda t, n: 1 - t / n)),
        Mistake("The wrong way round: most codes come in the first pass, when nothing is visible.",
                _reveal(lambda t, n: 1 - math.sin(math.pi * t / (2 * n)))),
        Mistake("With many passes the cosine stands still at first: a pass that draws nothing is"
                " wasted. At least one.", _reveal(_share, least=False)),
        Mistake("The first pass counts as pass 0, so the last one leaves some codes hidden.",
                _reveal(lambda t, n: _share(t - 1, n), least=False)),
        Mistake("The half is missing: cos(πt/T) is negative from the middle on.",
                _reveal(lambda t, n: max(0.0, math.cos(math.pi * t / n)))),
        Mistake("The squared cosine draws too many in the middle.",
                _reveal(lambda t, n: _share(t, n) ** 2)),
    ),
    hints=(
        "How many are hidden after pass t, and after pass t − 1? The difference is drawn.",
        "math.floor(math.cos(math.pi * t / (2 * passes)) * cells), but at least one fewer than"
        " before.",
        "rest = min(rest, left - 1); drawn.append(left - rest); left = rest.",
    ),
)  # fmt: skip


# --- choose_cells: the surest of the hidden ones --------------------------------------------------


def choose_cells(log_p: Tensor, noise: Tensor, hidden: Tensor, count: int) -> Tensor:
    score = (log_p + noise).masked_fill(~hidden, -torch.inf)
    return torch.zeros_like(hidden).scatter(0, score.topk(count).indices, True)


def _drawing(cells: int, count: int, scale: float = 1.0) -> tuple:
    """ln p of a code drawn in each cell, noise, which are hidden, and how many to keep."""
    hidden = torch.rand(cells) < 0.7
    hidden[:count], hidden[-1] = True, False
    order = torch.randperm(cells)
    log_p = -0.05 - 3 * torch.rand(cells)
    log_p[~hidden] = -0.01 * torch.rand(cells)[~hidden]  # visible codes: sure of themselves
    return log_p[order], scale * torch.randn(cells), hidden[order], count


def _chosen(score, size=lambda count, n: count):
    """Cells by another score of ln p, noise and hidden, or another number of them."""

    def answer(log_p: Tensor, noise: Tensor, hidden: Tensor, count: int) -> Tensor:
        top = score(log_p, noise, hidden).topk(size(count, len(log_p))).indices
        return torch.zeros_like(hidden).scatter(0, top, True)

    return answer


def _only_hidden(score: Tensor, hidden: Tensor) -> Tensor:
    return score.masked_fill(~hidden, -torch.inf)


CHOOSE_CELLS = Task(
    name="choose_cells", chapter=16, difficulty=3, minutes=20, answer=choose_cells,
    cases=lambda: [
        (torch.tensor([-1.0, -2.0]), torch.zeros(2), torch.tensor([True, True]), 1),
        (torch.tensor([-0.1, -2.0]), torch.zeros(2), torch.tensor([False, True]), 1),
        (torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([0.0, 3.0, 0.0]),
         torch.tensor([True, True, True]), 1),
        _drawing(4, 2), _drawing(6, 3), _drawing(8, 2, 3.0), _drawing(9, 4), _drawing(16, 5),
        (-400 * torch.rand(6) - 100, torch.randn(6),
         torch.tensor([True, False, True, True, False, True]), 2),
    ],
    properties=(
        Property("a visible code is never chosen",
                 lambda out, log_p, noise, hidden, count: not (out & ~hidden).any()),
        Property("as many are chosen as `count` says",
                 lambda out, log_p, noise, hidden, count: int(out.sum()) == count),
    ),
    mistakes=(
        Mistake("Visible cells compete as well. They are sure of themselves and win: a fixed code"
                " is drawn again, and a hidden one stays hidden.",
                _chosen(lambda p, z, h: p + z)),
        Mistake("Visible cells get a score of 0, and ln p is below 0: they win. −∞ loses.",
                _chosen(lambda p, z, h: (p + z) * h)),
        Mistake("The *least* sure ones are chosen.",
                _chosen(lambda p, z, h: _only_hidden(-(p + z), h))),
        Mistake("Without the noise: the surest come first, sky and ground before any thing.",
                _chosen(lambda p, z, h: _only_hidden(p, h))),
        Mistake("Only the noise: then the order is a matter of chance.",
                _chosen(lambda p, z, h: _only_hidden(z, h))),
        Mistake("The noise is subtracted.", _chosen(lambda p, z, h: _only_hidden(p - z, h))),
        Mistake("Noise is added to the *probability*: it belongs to ln p, as Gumbel noise does.",
                _chosen(lambda p, z, h: _only_hidden(p.exp() + z, h))),
        Mistake("Those are the cells that stay hidden.",
                lambda p, z, h, n: h & ~choose_cells(p, z, h, n)),
        Mistake("The cells that were visible before are in it as well: asked are the new ones.",
                lambda p, z, h, n: ~h | choose_cells(p, z, h, n)),
        Mistake("The first hidden cells in raster order: look at how sure the model is.",
                _chosen(lambda p, z, h: _only_hidden(
                    -torch.arange(len(p), dtype=p.dtype), h))),
    ),
    hints=(
        "Give each cell a score. What score must a visible one have, so that it never wins?",
        "ln p + noise, with −∞ where the code is visible; then the largest `count` of them.",
        "score = (log_p + noise).masked_fill(~hidden, -torch.inf); set True at"
        " score.topk(count).indices.",
    ),
)  # fmt: skip


# --- halton_cells: an order that spreads ----------------------------------------------------------


def halton_cells(grid: int, count: int) -> list:
    return masked_sampling.even_order(grid)[:count].tolist()


def _mirrored(i: int, base: int) -> float:
    x, place = 0.0, 1.0
    while i:
        place /= base
        x, i = x + place * (i % base), i // base
    return x


def _unmirrored(i: int, base: int) -> float:
    digits = 1
    while base**digits <= i:
        digits += 1
    return i / base**digits


def _visited(point, first=0, distinct=True):
    """Another sequence of points (row and column in 0 … 1), or another start."""

    def answer(grid: int, count: int) -> list:
        cells: list[int] = []
        for i in range(first, 100 * grid**2):
            row, column = point(i)
            cell = int(row * grid) * grid + int(column * grid)
            if not distinct or cell not in cells:
                cells.append(cell)
            if len(cells) == count:
                break
        return cells

    return answer


HALTON_CELLS = Task(
    name="halton_cells", chapter=16, difficulty=4, minutes=20, answer=halton_cells,
    # 3 does not divide a grid: no point lies on a border, where rounding would decide.
    cases=lambda: [(1, 1), (2, 2), (2, 4), (4, 3), (4, 8), (4, 16), (5, 5), (5, 25), (8, 12),
                   (8, 40), (10, 30), (16, 250)],
    properties=(
        Property("no cell comes twice", lambda out, *_: len(set(out)) == len(out)),
        Property("as many cells as asked for", lambda out, grid, count: len(out) == count),
    ),
    mistakes=(
        Mistake("That is raster order: the first cells all lie in the first row.",
                lambda grid, count: list(range(count))),
        Mistake("Row and column are exchanged: base 2 for the row, base 3 for the column, and cells"
                " are numbered along the rows.",
                _visited(lambda i: (_mirrored(i, 3), _mirrored(i, 2)))),
        Mistake("One base for both: all points lie on the diagonal. (It may never reach a cell"
                " beside it.)", lambda grid, count: (lambda on: on[:count] + [
                    c for c in range(grid**2) if c not in on][:max(0, count - len(on))])(
                    list(dict.fromkeys(int(_mirrored(i, 2) * grid) * (grid + 1)
                                       for i in range(8 * grid))))),
        Mistake("A cell that was visited before comes again: keep the first visit only.",
                _visited(lambda i: (_mirrored(i, 2), _mirrored(i, 3)), distinct=False)),
        Mistake("The sequence begins with point 1; point 0, the upper left corner, is left out.",
                _visited(lambda i: (_mirrored(i, 2), _mirrored(i, 3)), first=1)),
        Mistake("The digits are not mirrored: the *last* digit of i moves the point farthest.",
                _visited(lambda i: (_unmirrored(i, 2), _unmirrored(i, 3)))),
    ),
    hints=(
        "Point i: write i in base 2 and mirror its digits at the point; the same in base 3.",
        "6 is 110 in base 2, mirrored 0.011 = 3/8. Row: int(that · grid). Skip cells you have.",
        "x, place = 0, 1; while i: place /= base; x += place * (i % base); i //= base.",
    ),
)  # fmt: skip

TASKS = (MASKED_LOSS, HIDDEN_COUNTS, IMPOSSIBLE_SHARE, REVEAL_COUNTS, CHOOSE_CELLS, HALTON_CELLS)
