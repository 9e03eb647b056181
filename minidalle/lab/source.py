"""Show the finished code of the package, so that no notebook needs a copy of it.

nbconvert's style sheet lets a listing inherit the font of what it stands in, which is the font of
prose. So each stands in a <div> of a fixed-width font; pandoc and hosting sites ignore it.
"""

import inspect
import textwrap

from IPython.display import Markdown

FONT = "var(--jp-code-font-family, monospace)"


def show_source(*things) -> Markdown:
    """The source of functions, methods or classes, as a highlighted block with its place."""
    blocks = []
    for thing in things:
        lines, first = inspect.getsourcelines(thing)
        module = thing.__module__.replace(".", "/")
        code = textwrap.dedent("".join(lines)).rstrip()
        listing = f"```python\n{code}\n```"
        blocks.append(
            f"`{module}.py`, line {first}\n\n"
            f'<div style="font-family: {FONT}">\n\n{listing}\n\n</div>'
        )
    return Markdown("\n\n".join(blocks))
