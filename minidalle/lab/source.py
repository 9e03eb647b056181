"""Show the finished code of the package, so that no notebook needs a copy of it."""

import inspect
import textwrap

from IPython.display import Markdown


def show_source(*things) -> Markdown:
    """The source of functions, methods or classes, as a highlighted block with its place."""
    blocks = []
    for thing in things:
        lines, first = inspect.getsourcelines(thing)
        module = thing.__module__.replace(".", "/")
        code = textwrap.dedent("".join(lines)).rstrip()
        blocks.append(f"`{module}.py`, line {first}\n\n```python\n{code}\n```")
    return Markdown("\n\n".join(blocks))
