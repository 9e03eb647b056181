"""Watch a model train: a bar, its curves and a picture of its work, updated in place.

    history = watch(fit(state, losses), total=800, curve=("nll",), panel=draw_something)

`fit` yields one record per step; this only looks at them. The last state stays in the notebook, as
figures of its own, so that any viewer shows how training went.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from html import escape

from IPython.display import HTML, display

from minidalle.lab.figures import Picture, curves
from minidalle.lab.shown import Shown


def watch(
    records: Iterable,
    total: int,
    curve: Sequence[str] = ("total",),
    panel: Callable[[], Shown] | None = None,
    every: int | None = None,
    title: str = "",
) -> list:
    """Run through `records` and return them all.

    curve: which losses to draw; panel: called now and then for a picture of the model's work;
    every: steps between two calls of it. By default they come at 1, 3, 10, 30, … and at the end
    (`looks`): a model learns most at the beginning.
    """
    due_at = {1, total, *range(every, total, every)} if every else looks(total)
    history: list = []
    handle = display(HTML("<p>starting …</p>"), display_id=True)
    began = updated = time.monotonic()
    picture: Shown | None = None
    for record in records:
        history.append(record)
        due = record.step in due_at
        if due and panel is not None:
            picture = panel()
        if due or time.monotonic() - updated > 2:
            updated = time.monotonic()
            bar = _bar(history[-1], total, updated - began)
            figures = [_chart(history, curve, title), *([picture] if picture else [])]
            handle.update(HTML(bar + "".join(figure._repr_html_() for figure in figures)))
    if history:
        handle.update(HTML(_bar(history[-1], total, time.monotonic() - began)))
        display(_chart(history, curve, title), *([picture] if picture else []))
    return history


def looks(total: int) -> set[int]:
    """The steps 1, 3, 10, 30, … below `total`, and `total` itself."""
    spaced = {c * 10**n for n in range(len(str(total))) for c in (1, 3)}
    return {step for step in spaced if step < total} | {total}


def _bar(record, total: int, seconds: float) -> str:
    left = seconds / record.step * (total - record.step)
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in record.losses.items())
    when = f"{left:.0f} s left" if record.step < total else f"{seconds:.0f} s in all"
    return (
        f'<p><progress value="{record.step}" max="{total}" style="width:260px"></progress>'
        f" step {record.step} of {total}, {when}<br><small>{escape(numbers)}</small></p>"
    )


def _chart(history: list, curve: Sequence[str], title: str) -> Picture:
    series = {name: smooth([r.losses[name] for r in history]) for name in curve}
    width = max(1, len(history) // 400)
    lines = {name: values[::width] for name, values in series.items()}
    steps = [r.step for r in history][::width]
    return curves(lines, x=steps, labels=("step", "loss"), title=title, height=2.1)


def smooth(values: Sequence[float], half_life: float | None = None) -> list[float]:
    """An exponential moving average: single steps are too noisy to read."""
    keep = 0.5 ** (1 / (half_life or max(1.0, len(values) / 60)))
    out, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(mean / weight)
    return out
