"""Shares and their intervals: the closed form, the ends, and what the figure says."""

import math

import pytest

from minidalle.lab.shares import share_bars, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 9), (300, 600)])
def test_the_ends_of_an_interval_are_as_far_as_chance_goes(right, n):
    """Wilson's ends are the shares from which right / n is 1.96 standard errors away."""
    for end in wilson(right, n):
        if 1e-9 < end < 1 - 1e-9:
            error = math.sqrt(end * (1 - end) / n)
            assert abs(right / n - end) == pytest.approx(1.96 * error)
        else:
            assert right in (0, n) and end == pytest.approx(right / n, abs=1e-9)


def test_an_interval_of_nothing_is_everything():
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_words_give_each_share_with_its_interval():
    """Catches a figure that cannot be read aloud, and a system without one of the counts."""
    figure = share_bars(
        {"one": {"kind": (9, 10), "colour": (5, 10)}, "other": {"colour": (10, 10)}},
        "a comparison",
        lines={"chance": 0.5},
    )
    assert figure.alt.startswith("a comparison: one, kind: 0.90 (0.60 to 0.98);")
    assert "other, colour: 1.00 (0.72 to 1.00)" in figure.alt and "other, kind" not in figure.alt
    assert len(figure.png) > 1000


def test_an_empty_count_does_not_break_the_figure():
    assert "0.00 (0.00 to 1.00)" in share_bars({"one": {"kind": (0, 0)}}).alt
