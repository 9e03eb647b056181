"""Everything that a notebook shows or checks. No other room draws figures.

shown      how a figure shows itself: one PNG with its alternative text, HTML in widgets
grids      a Grid of small pictures with titles, never smeared
figures    curves, bars, clouds and matrices as Pictures
shares     grouped bars of shares with their intervals
diagrams   drawn diagrams of what each chapter teaches: diagrams.pipeline() and others
maps       the system map with some boxes highlighted
live       a bar, a curve and a picture that grow while a model trains
widgets    sliders that redraw a figure
source     show the finished code
icons      an icon set drawn from the storybook, where a reader has no pictures, for chapter 14
shipped    the half-trained prior and the film of its training, for chapter 08
card       a model card that a reader fills in, and what is wrong in it, for chapter 20
playground type a caption, move sliders, see ranked pictures
notebooks  runs notebooks and writes their outputs: the only writer
checks     instant checks of the exercises
exercises  makes the students' notebooks from the solutions
grading    which exercises a notebook passes; grading_runner runs it in a process of its own
"""

from minidalle.lab import diagrams
from minidalle.lab.figures import Grid, Picture, bars, curves, matrix, pictures, scatter
from minidalle.lab.live import watch
from minidalle.lab.maps import system_map
from minidalle.lab.source import show_source
from minidalle.lab.widgets import explore

__all__ = [
    "Grid", "Picture", "bars", "curves", "diagrams", "explore", "matrix", "pictures", "scatter",
    "show_source", "system_map", "watch",
]  # fmt: skip
