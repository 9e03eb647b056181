"""The table of all systems: means and intervals over seeds and captions."""

import random
import statistics

import numpy as np
import pytest

from minidalle.evaluation.summary import (
    Measured,
    bootstrap,
    over_captions,
    over_seeds,
    summarise,
)
from minidalle.evaluation.systems import Cost, System


def slow_bootstrap(values, resamples):
    """Loops: whole seeds and whole captions, with replacement."""
    rng, means = random.Random(0), []
    seeds, captions = range(len(values)), range(len(values[0]))
    for _ in range(resamples):
        rows, columns = rng.choices(seeds, k=len(seeds)), rng.choices(captions, k=len(captions))
        means.append(statistics.fmean(values[s][i] for s in rows for i in columns))
    cuts = statistics.quantiles(means, n=40)
    return cuts[0], cuts[-1]


def effects(seed_effect, caption_effect, noise=0.05, s=4, n=60):
    rng = np.random.default_rng(1)
    rows, columns = rng.normal(0, seed_effect, (s, 1)), rng.normal(0, caption_effect, (1, n))
    return 0.5 + rows + columns + rng.normal(0, noise, (s, n))


@pytest.mark.parametrize(
    ("seed_effect", "caption_effect"), [(0, 0), (0.3, 0), (0, 0.3), (0.1, 0.3)]
)
def test_the_interval_is_that_of_a_slow_bootstrap(seed_effect, caption_effect):
    """Catches seeds that are not resampled, and captions resampled anew for each seed."""
    values = effects(seed_effect, caption_effect)
    low, high = bootstrap(values, resamples=4000)
    slow_low, slow_high = slow_bootstrap(values.tolist(), 3000)
    tolerance = 0.08 * (slow_high - slow_low)
    assert low == pytest.approx(slow_low, abs=tolerance)
    assert high == pytest.approx(slow_high, abs=tolerance)


def test_of_one_seed_the_interval_is_the_binomials():
    values = np.array([[1.0, 0.0] * 200])
    low, high = bootstrap(values)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.006)


def test_hard_captions_for_all_seeds_give_the_same_width_as_one_seed():
    """Catches three seeds that make the captions look like three times as many."""
    one = np.array([[1.0, 0.0, 0.0, 1.0] * 25])
    (low, high), (low_3, high_3) = bootstrap(one), bootstrap(np.repeat(one, 3, 0))
    assert high_3 - low_3 == pytest.approx(high - low, rel=0.1)


def test_the_same_values_have_the_same_interval():
    values = effects(0.1, 0.1)
    assert bootstrap(values) == bootstrap(values.copy()) != bootstrap(values, seed=1)
    assert over_captions(np.ones((2, 9)))[:3] == (1, 1, 1)


def test_one_value_per_seed_has_the_range():
    assert over_seeds([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0, [3.0, 1.0, 2.0])


def hand_made(stage, seed, validation, step=10, minutes=5.0, fid=0.5):
    system = System(stage, seed, lambda *_: None, Cost(1000, minutes, step, 10))
    right = {"validation": validation, "compositions": [True, False]}
    return Measured(system, right, [0.5, 1.0], fid, 20.0)


def test_the_summary_of_hand_made_records():
    """Every number by hand. Catches rows of two systems mixed, and captions of another skill."""
    measured = [
        hand_made("gan", 0, [False] * 4, step=7),
        hand_made("prior", 0, [True, True, False, True], minutes=4.0, fid=0.2),
        hand_made("gan", 1, [True, False, False, False]),
        hand_made("prior", 1, [True, False, False, True], minutes=6.0, fid=0.6),
    ]
    prior, gan = summarise(measured, ["colours", "counting", "counting", "position"])
    assert (prior["stage"], prior["name"], gan["name"]) == ("prior", "DALL·E", "GAN")
    assert prior["seeds"] == gan["seeds"] == [0, 1]
    assert prior["validation"].mean == 0.625 and prior["validation"].seeds == [0.75, 0.5]
    assert gan["validation"].mean == 0.125 and gan["validation"].seeds == [0, 0.25]
    assert prior["validation"].low < 0.625 < prior["validation"].high
    assert {skill: e.mean for skill, e in prior["skills"].items()} == {
        "counting": 0.25, "colours": 1.0, "position": 1.0,
    }  # fmt: skip
    assert prior["skills"]["counting"].seeds == [0.5, 0.0]
    assert prior["compositions"].mean == 0.5 and prior["diversity"].mean == 0.75
    assert prior["fid"] == (0.4, 0.2, 0.6, [0.2, 0.6])
    assert prior["minutes"] == (5.0, 4.0, 6.0, [4.0, 6.0])
    assert prior["pictures_per_second"].mean == 20 and prior["parameters"] == 1000
    assert not prior["unfinished"]
    assert gan["unfinished"] and gan["steps"] == [7, 10] and gan["steps_of_preset"] == 10
    assert prior["needs"] == ["dvae"] and gan["needs"] == []
