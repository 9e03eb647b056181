"""A panel that works on one of the pictures drawn in the first tab."""

import ipywidgets
import numpy as np

from minidalle.errors import MinidalleError
from minidalle.lab.grids import Frame, pictures
from minidalle.lab.playground.draw import DrawPanel
from minidalle.lab.playground.panel import WIDE, Panel, as_html


class ChoicePanel(Panel):
    """Buttons that choose a picture, and the picture."""

    def __init__(self, drawing: DrawPanel) -> None:
        super().__init__()
        self.drawing = drawing
        self.choice = ipywidgets.ToggleButtons(
            options=[(str(i + 1), i) for i in range(drawing.keep)], description="picture", **WIDE
        )
        self.choice.style.button_width = "40px"
        self.preview = ipywidgets.HTML()
        self.choice.observe(lambda _: self.restart(), "value")
        drawing.listeners.append(self.restart)

    @property
    def image(self) -> np.ndarray:
        """The chosen picture. Raises MinidalleError where none is drawn."""
        ranked = self.drawing.ranked
        if ranked is None:
            raise MinidalleError("there is no picture yet; draw one in the first tab")
        return ranked.images[self.choice.value]

    @property
    def frame(self) -> Frame | None:
        """The part of the picture that is marked."""
        return None

    def restart(self) -> None:
        """Show the chosen picture, and forget the results of another one."""
        self.clear()
        self.look()

    def look(self) -> None:
        """Show the chosen picture."""
        what = f"picture {self.choice.value + 1}{', a frame in it' if self.frame else ''}"
        try:
            grid = pictures([self.image], side=192, alt=what, frame=self.frame)
            self.preview.value = grid._repr_html_()
        except MinidalleError as error:
            self.preview.value = as_html(error)
