"""Find a thing by its words: "the red car"."""

import numpy as np

from minidalle.errors import MinidalleError
from minidalle.world import judge
from minidalle.world.captions import parse
from minidalle.world.layouts import SPAN
from minidalle.world.scenes import CELLS


def find_thing(image: np.ndarray, words: str) -> tuple[int, int, int, int]:
    """The square of a storybook thing, x0 y0 x1 y1 in pixels. Raises MinidalleError where it is not
    there, or more than once."""
    asked = parse(words.lower().replace("the ", "a ", 1)).things
    reading = judge.read(image)
    if len(asked) != 1:
        raise MinidalleError(f'name one thing, such as "the red car", not {words!r}')
    matching = [
        f for f in reading.found
        if f.thing and f.thing.kind == asked[0].kind and asked[0].colour in (None, f.thing.colour)
    ]  # fmt: skip
    if len(matching) != 1:
        seen = [f"a {f.thing.colour} {f.thing.kind}" for f in reading.found if f.thing]
        raise MinidalleError(
            f"the picture shows {len(matching)} of {words!r}; it shows"
            f" {', '.join(seen) or 'nothing that the judge can read'}; give a region instead"
        )
    found, cell = matching[0], len(image) / CELLS
    assert found.thing and found.thing.size
    half = SPAN[found.thing.size] / 2
    corners = [at + sign * half for sign in (-1, 1) for at in found.centre]
    x0, y0, x1, y1 = (min(len(image), max(0, round(at * cell))) for at in corners)
    return x0, y0, x1, y1
