"""Chapter 14, real pictures: the checks of its exercises."""

import math

import torch
from torch import Tensor

from minidalle.datasets.concepts import group_concepts
from minidalle.datasets.duplicates import Duplicates
from minidalle.lab.checks.engine import Mistake, Property, Task

# --- concepts: which pictures belong into one split -----------------------------------------------


def concepts(n: int, twins: list) -> list:
    names = [f"{i:06d}" for i in range(n)]
    groups = group_concepts(
        [(name, f"caption {name}") for name in names],
        Duplicates([], [[names[i], names[j]] for i, j in twins], n),
    )
    first = {name: min(group) for group in groups for name in group}
    return [int(first[name]) for name in names]


def _in_one_pass(n, twins):
    label = list(range(n))
    for i, j in twins:
        label[max(i, j)] = min(label[i], label[j])
    return label


def _in_pairs(n, twins):
    return [min([k, *[min(pair) for pair in twins if k in pair]]) for k in range(n)]


CONCEPTS = Task(
    name="concepts", chapter=14, difficulty=3, minutes=20, answer=concepts,
    cases=lambda: [
        (1, []), (2, []), (2, [(0, 1)]), (3, [(0, 1), (1, 2)]), (3, [(1, 2), (0, 1)]),
        (4, [(2, 3), (1, 3)]), (4, [(2, 1)]), (5, [(3, 4), (0, 3), (1, 2)]),
        (6, [(4, 5), (2, 3), (3, 4), (0, 2)]), (7, [(0, 1), (2, 3), (4, 5), (1, 4)]),
        (5, [(0, 4), (0, 4), (4, 0)]),
        *[(n, [tuple(torch.randint(n, (2,)).tolist()) for _ in range(m)])
          for n, m in ((8, 4), (12, 9), (20, 12))],
    ],
    properties=(Property("two twins have the same number",
                         lambda out, n, twins: all(out[i] == out[j] for i, j in twins)),),
    mistakes=(
        Mistake("Only direct twins are joined. If 0 is like 1 and 1 is like 2, all three are one"
                " concept.", _in_pairs),
        Mistake("A picture is joined, but not those that were joined to it before: when two groups"
                " meet, *every* member gets the smaller number.", _in_one_pass),
        Mistake("Each group has its largest member as its number; the smallest is wanted.",
                lambda n, t: (lambda c: [max(k for k in range(n) if c[k] == c[i])
                                         for i in range(n)])(concepts(n, t))),
        Mistake("The groups are numbered 0, 1, 2, …; wanted is the smallest member of each.",
                lambda n, t: (lambda c: [sorted(set(c)).index(x) for x in c])(concepts(n, t))),
        Mistake("Nothing is joined: each picture is a concept of its own.",
                lambda n, t: list(range(n))),
    ),
    hints=(
        "Begin with a list in which every picture has its own number.",
        "For each pair of twins take the two numbers a and b of their groups, and give *all*"
        " pictures that have the larger the smaller.",
        "group = list(range(n)); for each i, j: low, high = sorted((group[i], group[j])); group ="
        " [low if g == high else g for g in group].",
    ),
)  # fmt: skip


# --- stop_at: early stopping ----------------------------------------------------------------------


def stop_at(losses: list, patience: int) -> tuple:
    best = 0
    for look, loss in enumerate(losses):
        if loss < losses[best]:
            best = look
        if 0 < patience <= look - best:
            return best, look
    return best, len(losses) - 1


def _stop(is_better, count=lambda look, best, rises: look - best, keep=lambda best, look: best):
    """Early stopping with one part exchanged."""

    def answer(losses, patience):
        best = rises = 0
        for look, loss in enumerate(losses):
            rises = rises + 1 if look and loss > losses[look - 1] else 0
            if is_better(loss, losses[best]):
                best = look
            if 0 < patience <= count(look, best, rises):
                return keep(best, look), look
        return keep(best, len(losses) - 1), len(losses) - 1

    return answer


STOP_AT = Task(
    name="stop_at", chapter=14, difficulty=2, minutes=15, answer=stop_at,
    cases=lambda: [
        ([3.0], 1), ([3.0, 2.0], 1), ([3.0, 4.0], 1), ([3.0, 2.0, 2.5], 1), ([3.0, 3.0, 3.0], 1),
        ([3.0, 2.0, 2.5, 1.0], 2), ([3.0, 2.0, 2.5, 2.4, 2.3, 1.0], 2), ([3.0, 2.0, 2.0, 1.0], 2),
        ([5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 2.9], 3), ([5.0, 4.0, 4.5, 4.4, 4.3, 4.2, 3.0], 4),
        ([1.0, 2.0, 3.0, 4.0], 0), ([2.0, 1.0, 2.0, 3.0, 0.5], 0), ([4.0, 3.0, 3.5, 2.0, 2.5], 9),
        ([-1.0, -2.0, -1.5, -1.6, -3.0], 2), ([math.inf, 7.0, 8.0, 6.0], 3),
        ([2.0, 1.0, 1.5, 1.2, 1.6, 1.3, 0.1], 3), ([3.0, 4.0, 5.0, 1.0], 2),
        ([3.0, 2.0, 3.5, 1.0], 2), ([3.0, 3.5, 2.0, 3.2, 1.0], 3), ([2.0, 1.9, 1.95, 1.85], 2),
    ],
    mistakes=(
        Mistake("Looks are counted from the last *fall*. A loss that zigzags above its best never"
                " stops so: count from the best look.",
                _stop(lambda a, b: a < b, lambda look, best, rises: rises)),
        Mistake("An equal loss is no lower one: a flat curve must stop too.",
                _stop(lambda a, b: a <= b)),
        Mistake("You keep the weights of the last look. The result is the best one.",
                _stop(lambda a, b: a < b, keep=lambda best, look: look)),
        Mistake("One look too late: after `patience` looks without a lower loss it is over.",
                _stop(lambda a, b: a < b, lambda look, best, rises: look - best - 1)),
        Mistake("A patience of 0 means: never stop early.",
                lambda ls, p: stop_at(ls, p) if p else (0, 0)),
        Mistake("It never stops early: the best of *all* looks may come after the end.",
                lambda ls, p: (ls.index(min(ls)), len(ls) - 1)),
        Mistake("A high loss is not the best one: lower is better.",
                _stop(lambda a, b: a > b)),
    ),
    hints=(
        "Go through the looks, and remember which was the best so far.",
        "It ends when the look's number minus the best one's reaches patience.",
        "for look, loss in enumerate(losses): update best if loss is lower, then test 0 < patience"
        " <= look − best. After the loop: (best, len(losses) − 1).",
    ),
)  # fmt: skip


# --- grow_tokens: embeddings of new tokens --------------------------------------------------------


def grow_tokens(rows: Tensor, vocab: int, merges: list) -> Tensor:
    tokens = list(rows[:vocab])
    for left, right in merges:
        tokens.append((tokens[left] + tokens[right]) / 2)
    return torch.cat([torch.stack(tokens), rows[vocab:]])


def _grown(new, at_end=False):
    def answer(rows, vocab, merges):
        tokens = list(rows[:vocab])
        for left, right in merges:
            tokens.append(new(tokens[left], tokens[right]))
        if at_end:
            return torch.cat([rows, torch.stack(tokens)[vocab:]])
        return torch.cat([torch.stack(tokens), rows[vocab:]])

    return answer


GROW_TOKENS = Task(
    name="grow_tokens", chapter=14, difficulty=3, minutes=20, answer=grow_tokens,
    cases=lambda: [
        (torch.randn(3, 2), 2, []), (torch.tensor([[2.0], [4.0], [9.0]]), 2, [(0, 1)]),
        (torch.randn(3, 2), 3, [(0, 2)]), (torch.randn(5, 3), 4, [(0, 1), (4, 2)]),
        (torch.randn(6, 4), 3, [(1, 1)]), (torch.randn(9, 4), 6, [(5, 0), (6, 6), (7, 1)]),
        (50 * torch.randn(4, 2), 2, [(0, 1), (1, 0), (2, 3)]),
    ],
    properties=(Property("the old tokens keep their rows",
                         lambda out, rows, vocab, _: torch.equal(out[:vocab], rows[:vocab])),),
    mistakes=(
        Mistake("The new rows stand after the padding, and their ids would be those of padding."
                " Tokens come first, padding last: put them between.",
                _grown(lambda a, b: (a + b) / 2, at_end=True)),
        Mistake("The sum is twice as long as a usual vector: take the mean.",
                _grown(lambda a, b: a + b)),
        Mistake("New tokens begin at zero, as if they meant nothing; the mean of their two parts is"
                " what the model has read there until now.",
                _grown(lambda a, b: torch.zeros_like(a))),
        Mistake("Only the left part counts with you: a token is made of two.",
                _grown(lambda a, b: a.clone())),
        Mistake("The padding is lost.",
                lambda rows, v, merges: grow_tokens(rows, v, merges)[:v + len(merges)]),
        Mistake("A merge may use a token that is new itself: look it up among all tokens so far,"
                " the first new one has the id `vocab`.",
                lambda rows, v, merges: torch.cat([rows[:v], *[
                    ((rows[a] + rows[b]) / 2)[None] for a, b in merges], rows[v:]])),
    ),
    hints=(
        "Three parts, one below the other: old tokens, new tokens, padding.",
        "Keep the tokens in a list that grows: a later merge may use an earlier new one.",
        "tokens = list(rows[:vocab]); append (tokens[left] + tokens[right]) / 2 for each merge;"
        " torch.cat([torch.stack(tokens), rows[vocab:]]).",
    ),
)  # fmt: skip


# --- gaussian_distance: Fréchet, of two Gaussians without correlations ----------------------------


def gaussian_distance(mean_a: Tensor, var_a: Tensor, mean_b: Tensor, var_b: Tensor) -> float:
    means = (mean_a - mean_b).square().sum()
    spreads = (var_a + var_b - 2 * (var_a * var_b).sqrt()).sum()
    return (means + spreads).item()


def _gaussians(n: int) -> tuple:
    return torch.randn(n), torch.rand(n) + 0.1, torch.randn(n), 3 * torch.rand(n)


GAUSSIAN_DISTANCE = Task(
    name="gaussian_distance", chapter=14, difficulty=2, minutes=15, answer=gaussian_distance,
    cases=lambda: [
        (torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([1.0])),
        (torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([4.0])),
        (torch.tensor([0.0]), torch.tensor([9.0]), torch.tensor([0.0]), torch.tensor([4.0])),
        (torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([9.0])),
        (torch.zeros(2), torch.tensor([1.0, 4.0]), torch.zeros(2), torch.tensor([4.0, 1.0])),
        _gaussians(3), _gaussians(5), _gaussians(8),
    ],
    tolerance=2e-5,
    properties=(Property("a distance is not negative", lambda out, *_: out >= -1e-4),),
    mistakes=(
        Mistake("Variances are subtracted; the formula has standard deviations: their difference"
                " squared is var_a + var_b − 2 √(var_a var_b).",
                lambda a, p, b, q: ((a - b).square() + (p - q).square()).sum()),
        Mistake("The means alone: two clouds of different width would be one.",
                lambda a, p, b, q: (a - b).square().sum()),
        Mistake("The widths alone: two clouds in different places would be one.",
                lambda a, p, b, q: (p + q - 2 * (p * q).sqrt()).sum()),
        Mistake("The root is missing in the last term.",
                lambda a, p, b, q: ((a - b).square() + p + q - 2 * p * q).sum()),
        Mistake("That is the root of it; the FID is the *squared* distance.",
                lambda a, p, b, q: ((a - b).square() + (p.sqrt() - q.sqrt()).square()).sum()
                .sqrt()),
        Mistake("Sum over dimensions: the mean makes 128 features look as near as one.",
                lambda a, p, b, q: ((a - b).square() + (p.sqrt() - q.sqrt()).square()).mean()),
        Mistake("That is the KL divergence: it is not symmetric, and infinite for a width of 0.",
                lambda a, p, b, q: 0.5 * (p / q + (a - b).square() / q - 1 + (q / p).log()).sum()),
    ),
    hints=(
        "Without correlations every dimension stands alone; add them up.",
        "Of one dimension: (difference of means)² + (difference of standard deviations)².",
        "((mean_a − mean_b)² + (√var_a − √var_b)²).sum().",
    ),
)  # fmt: skip


# --- interval: a bootstrap ------------------------------------------------------------------------


def interval(values: Tensor, picks: Tensor, share: float) -> tuple:
    means = values[picks].mean(1)
    low, high = means.quantile(torch.tensor([(1 - share) / 2, (1 + share) / 2])).tolist()
    return low, high


def _picks(rounds: int, n: int) -> Tensor:
    return torch.randint(n, (rounds, n))


def _quantiles(values: Tensor, low: float, high: float) -> tuple:
    return values.quantile(low).item(), values.quantile(high).item()


INTERVAL = Task(
    name="interval", chapter=14, difficulty=2, minutes=15, answer=interval,
    cases=lambda: [
        (torch.tensor([1.0, 2.0]), torch.tensor([[0, 0], [0, 1], [1, 1]]), 0.5),
        (torch.tensor([1.0, 2.0, 6.0]), torch.tensor([[0, 0, 1], [2, 2, 2], [0, 1, 2]]), 0.0),
        (torch.randn(4), _picks(5, 4), 1.0), (torch.randn(10), _picks(40, 10), 0.9),
        (100 + 9 * torch.randn(20), _picks(60, 20), 0.95), (torch.randn(7), _picks(100, 7), 0.8),
    ],
    properties=(Property("the lower end comes first", lambda out, *_: out[0] <= out[1]),),
    tolerance=1e-4,
    mistakes=(
        Mistake("Those are quantiles of the values: where single pictures lie, and not how sure"
                " their mean is. Resample first.",
                lambda v, p, s: _quantiles(v, (1 - s) / 2, (1 + s) / 2)),
        Mistake("`share` of the means is to lie inside, so half of the rest lies at each end.",
                lambda v, p, s: _quantiles(v[p].mean(1), min(s, 1 - s), max(s, 1 - s))),
        Mistake("All of the rest is cut off on both sides: half of it belongs to each.",
                lambda v, p, s: _quantiles(v[p].mean(1), (1 - s), max(1 - s, s))),
        Mistake("Mean over the wrong axis: each *row* of picks is one resampled set.",
                lambda v, p, s: _quantiles(v[p].mean(0), (1 - s) / 2, (1 + s) / 2)),
        Mistake("The smallest and the largest mean: with more rounds that interval only grows.",
                lambda v, p, s: (v[p].mean(1).min().item(), v[p].mean(1).max().item())),
        Mistake("Two standard deviations of the means: that supposes a Gaussian, and knows no"
                " `share`.",
                lambda v, p, s: (lambda m: ((m.mean() - 2 * m.std()).item(),
                                            (m.mean() + 2 * m.std()).item()))(v[p].mean(1))),
    ),
    hints=(
        "values[picks] has one resampled set per row.",
        "One mean per row, then two quantiles of the means.",
        "The quantiles (1 − share)/2 and (1 + share)/2 of values[picks].mean(1).",
    ),
)  # fmt: skip


# --- forgetting -----------------------------------------------------------------------------------


def forgetting(scores: list) -> list:
    *earlier, last = scores
    return [
        max(row[task] for row in earlier) - last[task] for task in range(len(last) - 1)
    ]  # fmt: skip


FORGETTING = Task(
    name="forgetting", chapter=14, difficulty=2, minutes=15, answer=forgetting,
    cases=lambda: [
        ([[0.9, 0.1], [0.4, 0.8]], ), ([[0.9, 0.1], [0.95, 0.8]], ),
        ([[0.5, 0.0, 0.1], [0.7, 0.6, 0.0], [0.6, 0.2, 0.9]], ),
        ([[0.8, 0.3, 0.0], [0.2, 0.9, 0.1], [0.5, 0.5, 0.7]], ),
        ([[1.0, 0.0, 0.0, 0.2], [0.9, 0.8, 0.3, 0.0], [0.9, 0.9, 0.4, 0.1],
          [0.3, 0.9, 0.6, 0.5]], ),
        *[(torch.rand(n, n).tolist(), ) for n in (3, 4, 6)],
    ],
    mistakes=(
        Mistake("Compared with the score right after the first stage: a task may have become better"
                " since, and its *best* earlier score is what was lost from.",
                lambda s: [s[0][t] - s[-1][t] for t in range(len(s[-1]) - 1)]),
        Mistake("The last stage is among those that you take the best of, so nothing is ever"
                " negative. A task that gained has a forgetting below zero.",
                lambda s: [max(r[t] for r in s) - s[-1][t] for t in range(len(s[-1]) - 1)]),
        Mistake("The sign: lost points count as positive.",
                lambda s: [s[-1][t] - max(r[t] for r in s[:-1]) for t in range(len(s[-1]) - 1)]),
        Mistake("The last task was learned just now: it cannot be forgotten yet, leave it out.",
                lambda s: [max(r[t] for r in s[:-1]) - s[-1][t] for t in range(len(s[-1]))]),
        Mistake("Only the last step counts with you: what was lost before it is lost too.",
                lambda s: [s[-2][t] - s[-1][t] for t in range(len(s[-1]) - 1)]),
        Mistake("Rows are stages and columns are tasks: you look along a row.",
                lambda s: [max(s[t][:-1]) - s[t][-1] for t in range(len(s) - 1)]),
    ),
    hints=(
        "One row per stage; take the last row apart from those before it.",
        "For each task but the last: its best score in the earlier rows minus the one in the last.",
        "[max(row[t] for row in scores[:-1]) − scores[-1][t] for t in range(len(scores[-1]) − 1)].",
    ),
)  # fmt: skip

TASKS = (CONCEPTS, STOP_AT, GROW_TOKENS, GAUSSIAN_DISTANCE, INTERVAL, FORGETTING)
