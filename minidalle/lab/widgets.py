"""Sliders that redraw a figure. Each notebook also shows a static version of the figure."""

from collections.abc import Callable

import ipywidgets
from IPython.display import display

from minidalle.lab.figures import Picture


def explore(draw: Callable[..., Picture], **controls) -> ipywidgets.VBox:
    """`draw(**values)` gives a Picture; each control is a slider, a choice or a switch.

    A control is (low, high, start) or (low, high, start, step) for a slider, a list for a choice,
    a bool for a switch.
    """
    boxes = {name: _control(name, what) for name, what in controls.items()}
    figure = ipywidgets.HTML()

    def redraw(*_) -> None:
        figure.value = draw(**{name: box.value for name, box in boxes.items()})._repr_html_()

    for box in boxes.values():
        box.observe(redraw, "value")
    redraw()
    whole = ipywidgets.VBox([ipywidgets.HBox(list(boxes.values())), figure])
    display(whole)
    return whole


def _control(name: str, what) -> ipywidgets.Widget:
    label = {"description": name.replace("_", " "), "style": {"description_width": "initial"}}
    if isinstance(what, bool):
        return ipywidgets.Checkbox(what, **label)
    if isinstance(what, list):
        return ipywidgets.Dropdown(options=what, value=what[0], **label)
    low, high, start, *step = what
    if isinstance(start, int) and not step:
        return ipywidgets.IntSlider(start, low, high, continuous_update=False, **label)
    size = step[0] if step else (high - low) / 50
    return ipywidgets.FloatSlider(start, min=low, max=high, step=size,
                                  continuous_update=False, **label)  # fmt: skip
