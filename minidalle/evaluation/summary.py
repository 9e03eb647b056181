"""From measured captions to a table: a mean and an interval per system and measure.

Every system of every run draws the same captions, so a share has a value per seed and caption: an
S × n matrix. Its mean varies in two ways, with the seeds of the training and with the captions that
were asked. The interval covers both, by a bootstrap that resamples rows and columns independently
(the pigeonhole bootstrap, Owen 2007). Captions are resampled as a whole, one draw for all seeds,
since a hard caption is hard for all of them. With one seed the interval covers the captions alone.

What has only one value per seed (FID, minutes, pictures per second) has the lowest and the highest
of the seeds in place of an interval.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minidalle.evaluation.systems import NAMES, System, lines_of_code, models_behind
from minidalle.world.facts import SKILLS

RESAMPLES = 2000  # the ends of an interval then vary by 2 % of its width


class Measured(NamedTuple):
    """What was measured of one system of one run."""

    system: System
    right: dict[str, list[bool]]  # by split: of each caption
    diversity: list[float]  # of each caption, as a share of the world's own
    fid: float
    pictures_per_second: float


class Estimate(NamedTuple):
    """A mean over seeds, and where it may lie."""

    mean: float
    low: float
    high: float
    seeds: list[float]  # the value of each seed


def bootstrap(
    values: np.ndarray, seed: int = 0, share: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The interval of the mean of values, S × n: rows and columns resampled with replacement.

    The resamples depend on `seed` and the shape alone, so two systems are compared on the same
    ones. Where all values are equal the interval has no width: that is too narrow.
    """
    s, n = values.shape
    rng = np.random.default_rng(seed)
    rows = rng.multinomial(s, np.full(s, 1 / s), resamples)  # R S: how often each is drawn
    columns = rng.multinomial(n, np.full(n, 1 / n), resamples)  # R n
    means = ((rows @ values) * columns).sum(1) / (s * n)
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def over_captions(values: Sequence[Sequence[float]] | np.ndarray) -> Estimate:
    """The estimate of values per seed and caption, S × n."""
    matrix = np.array(values, float)
    low, high = bootstrap(matrix)
    return _estimate(low, high, matrix.mean(1).tolist())


def over_seeds(values: Sequence[float]) -> Estimate:
    """The estimate of one value per seed: lowest and highest in place of an interval."""
    return _estimate(min(values), max(values), values)


def summarise(measured: Sequence[Measured], skills: Sequence[str]) -> list[dict[str, Any]]:
    """One row per system, ready for JSON but for its Estimates; the systems in the order of NAMES.

    skills: of each validation caption, the one that it tests.
    """
    rows = []
    for stage in NAMES:
        own = [m for m in measured if m.system.stage == stage]
        if own:
            rows.append(_row(own, skills))
    return rows


def _row(own: Sequence[Measured], skills: Sequence[str]) -> dict[str, Any]:
    """The row of one system from all its runs."""
    systems = [m.system for m in own]
    costs = [s.cost for s in systems]
    right = np.array([m.right["validation"] for m in own])  # S n
    tested = {skill: [i for i, other in enumerate(skills) if other == skill] for skill in SKILLS}
    return {
        "stage": systems[0].stage,
        "name": systems[0].name,
        "seeds": [s.seed for s in systems],
        "steps": [c.step for c in costs],
        "steps_of_preset": costs[0].steps,
        "unfinished": any(c.step < c.steps for c in costs),
        "needs": models_behind(systems[0].stage),
        "validation": over_captions(right),
        "compositions": over_captions([m.right["compositions"] for m in own]),
        "skills": {name: over_captions(right[:, at]) for name, at in tested.items() if at},
        "diversity": over_captions([m.diversity for m in own]),
        "fid": over_seeds([m.fid for m in own]),
        "parameters": costs[0].parameters,
        "minutes": over_seeds([c.minutes for c in costs]),
        "pictures_per_second": over_seeds([m.pictures_per_second for m in own]),
        "lines": lines_of_code(systems[0].stage),
    }


def _estimate(low: float, high: float, seeds: Sequence[float]) -> Estimate:
    """Rounded for the report: a share of 300 captions has two digits that count."""
    mean = round(float(np.mean(seeds)), 4)
    return Estimate(mean, round(low, 4), round(high, 4), [round(value, 4) for value in seeds])
