"""Watch a model train: a bar, its curves and a picture of its work, updated in place.

    history = watch(fit(state, losses), total=800, curve=("nll",), panel=draw_something)

`fit` yields one record per step; this only looks at them. The last state stays in the notebook, so
that it shows how training went when it is read without a kernel.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from html import escape

from IPython.display import HTML, display

from minidalle.lab.figures import Picture, curves


def watch(
    records: Iterable,
    total: int,
    curve: Sequence[str] = ("total",),
    panel: Callable[[], Picture] | None = None,
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
    picture: Picture | None = None
    for record in records:
        history.append(record)
        due = record.step in due_at
        if due and panel is not None:
            picture = panel()
        if due or time.monotonic() - updated > 2:
            updated = time.monotonic()
            handle.update(HTML(_html(history, total, curve, picture, updated - began, title)))
    return history


def looks(total: int) -> set[int]:
    """The steps 1, 3, 10, 30, … below `total`, and `total` itself."""
    spaced = {c * 10**n for n in range(len(str(total))) for c in (1, 3)}
    return {step for step in spaced if step < total} | {total}


def _html(history, total, curve, picture, seconds, title) -> str:
    record = history[-1]
    left = seconds / record.step * (total - record.step)
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in record.losses.items())
    when = f"{left:.0f} s left" if record.step < total else f"{seconds:.0f} s in all"
    bar = (
        f'<p><progress value="{record.step}" max="{total}" style="width:260px"></progress>'
        f" step {record.step} of {total}, {when}<br><small>{escape(numbers)}</small></p>"
    )
    series = {name: smooth([r.losses[name] for r in history]) for name in curve}
    width = max(1, len(history) // 400)
    lines = {name: values[::width] for name, values in series.items()}
    steps = [r.step for r in history][::width]
    chart = curves(lines, x=steps, labels=("step", "loss"), title=title, height=2.1)._repr_html_()
    return bar + chart + (picture._repr_html_() if picture else "")


def smooth(values: Sequence[float], half_life: float | None = None) -> list[float]:
    """An exponential moving average: single steps are too noisy to read."""
    keep = 0.5 ** (1 / (half_life or max(1.0, len(values) / 60)))
    out, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(mean / weight)
    return out
