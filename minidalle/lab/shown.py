"""How a figure shows itself, in every viewer of notebooks and with its alternative text.

JupyterLab gives no alternative text to an `image/png`. Hosting sites drop pictures inside
`text/html`, exports to PDF drop all of it, and where a cell has both, most take the HTML. Both
together would double the size of a notebook. So a figure is stored once, as `image/png`, and an
invisible picture before it carries the words. Widgets show HTML, which is not stored.
"""

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import Any

from IPython.display import display
from PIL import Image

# One transparent pixel. A browser writes the words out where it cannot read the picture.
_EMPTY = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


class Shown:
    """A figure with alternative text: `as_png` gives the picture, `_repr_html_` that of widgets."""

    alt: str

    def as_png(self) -> tuple[bytes, int]:
        """The PNG and its width in CSS pixels."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        png, width = self.as_png()
        data = {"image/png": base64.b64encode(png).decode(), "text/plain": repr(self)}
        return data, {"image/png": {"alt": self.alt, "width": width}}

    def _ipython_display_(self) -> None:
        data, metadata = self._repr_mimebundle_()
        words = (
            f'<img alt="{escape(self.alt, quote=True)}" width="1" height="1"'
            f' style="position:absolute" src="{_EMPTY}">'
        )
        display({"text/html": words, "text/plain": ""}, raw=True)
        display(data, metadata=metadata, raw=True)

    def __repr__(self) -> str:
        return f"[{self.alt}]"


@dataclass(frozen=True, repr=False)
class Picture(Shown):
    """A PNG, its alternative text, and its width in CSS pixels."""

    png: bytes
    alt: str
    width: int

    def as_png(self) -> tuple[bytes, int]:
        """The PNG and its width in CSS pixels."""
        return self.png, self.width

    def _repr_html_(self) -> str:
        return (
            f'<img alt="{escape(self.alt, quote=True)}" width="{self.width}"'
            f' style="max-width:100%" src="{data_address(self.png)}">'
        )


def with_palette(image: Image.Image) -> Image.Image:
    """The picture in 256 colours: nothing is lost if it has no more, and a third of the bytes is
    saved. The median cut would be Pillow's choice; it blends rare colours, and a purple triangle
    among many pictures turns grey."""
    return image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)


def png_bytes(image: Image.Image) -> bytes:
    """A picture as a small PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_address(png: bytes) -> str:
    """A PNG as the address of an <img>."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
