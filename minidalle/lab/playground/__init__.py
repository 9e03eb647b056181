"""The playground: type a caption, see ranked pictures, edit one of them, or have it described.

The same notebook is a lesson in JupyterLab and, served by Voilà, a web page.

panel      what the three tabs share: messages, pictures, waiting until sliders rest
views      ranked pictures with what the judge says
draw       a caption becomes pictures; complete one of them
choice     a panel that works on one of the pictures drawn
edit       draw a region or a thing anew, or repair a noisy picture
describe   the caption of a picture, or the likeliest of some captions
"""

import ipywidgets
from IPython.display import display

from minidalle.lab.playground.describe import DescribePanel
from minidalle.lab.playground.draw import DrawPanel
from minidalle.lab.playground.edit import EditPanel
from minidalle.lab.playground.views import verdicts
from minidalle.pipeline import MiniDALLE, Ranked

__all__ = ["Playground", "verdicts"]


class Playground:
    """Three tabs: draw, edit, describe. Edit and describe work on the pictures drawn."""

    def __init__(self, model: MiniDALLE, candidates: int = 8, keep: int = 4) -> None:
        self.drawing = DrawPanel(model, candidates, keep)
        self.editing = EditPanel(model, self.drawing)
        self.describing = DescribePanel(model, self.drawing)
        panels = (self.drawing, self.editing, self.describing)
        self.box = ipywidgets.Tab(
            children=[panel.box for panel in panels], titles=("draw", "edit", "describe")
        )

    @property
    def ranked(self) -> Ranked | None:
        """The pictures shown in the first tab, best first; None if there are none."""
        return self.drawing.ranked

    def show(self) -> None:
        """Display the tabs and draw once."""
        display(self.box)
        self.drawing.draw()
