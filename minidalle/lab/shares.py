"""Shares with their uncertainty: grouped bars, each with its 95 % interval.

An interval is Wilson's (1927): unlike p ± 2 standard errors it stays within 0 … 1 and is honest
where all or none are right.
"""

from collections.abc import Mapping

from minidalle.lab.figures import COLOURS, FAINT, Picture, canvas, finish

Counts = Mapping[str, tuple[int, int]]  # name: how many are right, of how many


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share, right of n; 0 to 1 where there is none to count."""
    if not n:
        return 0.0, 1.0
    p, extra = right / n, z * z / n
    middle = (p + extra / 2) / (1 + extra)
    half = z * (p * (1 - p) / n + extra / (4 * n)) ** 0.5 / (1 + extra)
    return max(0.0, middle - half), min(1.0, middle + half)


def share_bars(
    groups: Mapping[str, Counts],
    title: str = "",
    lines: Mapping[str, float] | None = None,
    width: float = 7.4,
    height: float = 2.6,
) -> Picture:
    """A colour for each system of `groups`, and a bar for each of its counts; systems need not
    have the same. `lines`: horizontal marks by name."""
    figure, axis = canvas(width, height)
    names = list(dict.fromkeys(name for counts in groups.values() for name in counts))
    step, said = 0.8 / len(groups), []
    for i, (system, counts) in enumerate(groups.items()):
        at, shares, below, above = [], [], [], []
        for name, (right, n) in counts.items():
            share, (low, high) = right / max(1, n), wilson(right, n)
            at.append(names.index(name) + step * (i - (len(groups) - 1) / 2))
            shares.append(share)
            below.append(max(0.0, share - low))
            above.append(max(0.0, high - share))
            said.append(
                f"{system}, {' '.join(name.split())}: {share:.2f} ({low:.2f} to {high:.2f})"
            )
        axis.bar(at, shares, 0.9 * step, yerr=(below, above), color=COLOURS[i % len(COLOURS)],
                 label=system, error_kw={"linewidth": 1.1, "capsize": 3})  # fmt: skip
    for name, value in (lines or {}).items():
        axis.axhline(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(name, (1.01, value), xycoords=("axes fraction", "data"), ha="left",
                      va="center", color=FAINT, fontsize=8.5)  # fmt: skip
    axis.set_xticks(range(len(names)), names)
    axis.set(ylim=(0, 1.05), ylabel="share right")
    if title:
        axis.set_title(title)
    if len(groups) > 1:
        figure.legend(loc="outside right upper", fontsize=8.5)
    return finish(figure, f"{title or 'shares right'}: {'; '.join(said)}")
