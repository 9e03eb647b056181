"""What the tabs of the playground share."""

import asyncio
import warnings
from collections.abc import Callable
from html import escape

import ipywidgets

from minidalle.errors import MinidalleError
from minidalle.normalise import clean

REST = 0.4  # seconds without a move, after which a slider rests
WIDE = {"style": {"description_width": "90px"}}


class Rest:
    """Calls a function once the widgets have not moved for a while.

    While a kernel draws, the moves of a slider wait in its queue; each of them would draw.
    """

    def __init__(self, seconds: float = REST) -> None:
        self.seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def later(self, work: Callable[[], None]) -> None:
        """Call `work` when things rest; at once where nothing waits for events, as in a script."""
        self.cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            work()
        else:
            self._timer = loop.call_later(self.seconds, work)

    def cancel(self) -> None:
        """Forget the call that waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Panel:
    """A message, pictures, and buttons that wait while the model works."""

    def __init__(self) -> None:
        self.message, self.pictures = ipywidgets.HTML(), ipywidgets.HTML()
        self.buttons: list[ipywidgets.Button] = []
        self.rest = Rest()
        self._shown: object = None  # the request of the pictures shown

    def work(self, request: object, task: Callable[[], str], message: str = "") -> None:
        """Run a task that returns the HTML of its pictures.

        What was shown before leaves first. Warnings and errors become text of the page. A request
        that is shown already is not run again: a click on a button also leaves the caption box,
        which has then drawn already.
        """
        self.rest.cancel()
        if request == self._shown:
            return
        self.clear()
        self.message.value = escape(message)
        self._enable(False)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                page = task()
            notes = [w.message for w in caught if issubclass(w.category, UserWarning)]
            self.message.value = "<br>".join(map(as_html, notes))
            self.pictures.value, self._shown = page, request
        except MinidalleError as error:
            self.clear()
            self.message.value = f"<b>{as_html(error)}</b>"
        finally:
            self._enable(True)

    def clear(self) -> None:
        """Forget what is shown."""
        self.message.value = self.pictures.value = ""
        self._shown = None

    def _enable(self, on: bool) -> None:
        for button in self.buttons:
            button.disabled = not on


def as_html(message: object) -> str:
    """A message as text of a page: it quotes captions and file names, which may hold markup."""
    return escape(clean(str(message)))
