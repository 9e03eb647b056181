"""The first tab: a caption becomes pictures, and one of them is completed in other ways."""

from collections.abc import Callable, Iterable, Iterator

import ipywidgets
import torch
from torch import Tensor

from minidalle.lab.grids import Frame
from minidalle.lab.playground.panel import WIDE, Panel
from minidalle.lab.playground.views import best, growing, verdicts
from minidalle.pipeline import MiniDALLE, Ranked
from minidalle.tensors import to_uint8

EXAMPLES = (
    "a big brown bear in the snow",
    "a red car to the left of a blue house",
    "three yellow stars at night",
    "一只红色的汽车停在草地上",
)


class DrawPanel(Panel):
    """Enter, a slider that rests and the button call `draw()`; other buttons `complete(i)`."""

    def __init__(self, model: MiniDALLE, candidates: int, keep: int) -> None:
        super().__init__()
        self.model, self.keep = model, keep
        self.everything: Ranked | None = None  # all candidates, best first
        self.listeners: list[Callable[[], None]] = []  # called when the pictures change
        self._kept: Frame | None = None  # what a completion kept
        self._make_widgets(candidates)
        self.box = ipywidgets.VBox([
            ipywidgets.HBox([self.caption, self.button]),
            ipywidgets.HBox([self.candidates, self.seed]),
            ipywidgets.HBox([self.temperature, self.guidance]),
            self.bar, self.message, self.pictures,
            ipywidgets.HBox([*self.complete_buttons, self.all_candidates]),
        ])  # fmt: skip

    def _make_widgets(self, candidates: int) -> None:
        usual = self.model.sampling
        # Without continuous updates a value arrives with Enter, or when the box is left.
        self.caption = ipywidgets.Combobox(
            value=EXAMPLES[0], options=EXAMPLES, description="caption", ensure_option=False,
            continuous_update=False, layout=ipywidgets.Layout(width="460px"), **WIDE,
        )  # fmt: skip
        self.candidates = ipywidgets.IntSlider(
            candidates, self.keep, 64, description="candidates", **WIDE
        )
        self.temperature = ipywidgets.FloatSlider(
            usual.temperature, min=0.1, max=1.5, step=0.05, description="temperature", **WIDE
        )
        self.guidance = ipywidgets.FloatSlider(
            usual.guidance, min=1, max=8, step=0.25, description="guidance", **WIDE
        )
        self.seed = ipywidgets.IntSlider(0, 0, 99, description="seed", **WIDE)
        self.button = ipywidgets.Button(description="Draw", button_style="primary")
        self.bar = ipywidgets.IntProgress(0, 0, self.model.dvae.config.grid**2)
        self.complete_buttons = [
            ipywidgets.Button(
                description=f"complete {i + 1}", tooltip="keep its upper half", disabled=True
            )
            for i in range(self.keep)
        ]
        self.all_candidates = ipywidgets.ToggleButton(
            description="show all candidates", disabled=True,
            layout=ipywidgets.Layout(width="170px"),
        )  # fmt: skip
        self.buttons = [self.button]
        self.caption.observe(lambda _: self.draw(), "value")
        self.button.on_click(lambda _: self.draw())
        for i, button in enumerate(self.complete_buttons):
            button.on_click(lambda _, i=i: self.complete(i))
        for slider in (self.candidates, self.temperature, self.guidance, self.seed):
            slider.continuous_update = False
            slider.observe(lambda _: self.rest.later(self.draw), "value")
        self.all_candidates.observe(lambda _: self._show(), "value")

    @property
    def ranked(self) -> Ranked | None:
        """The best pictures, or None."""
        return None if self.everything is None else best(self.everything, self.keep)

    def draw(self) -> None:
        """Draw the caption and show the best."""
        self._generate(self.seed.value)

    def complete(self, i: int) -> None:
        """Keep the upper half of picture i and draw the lower half again, once per candidate, under
        the words that the caption box has."""
        if self.ranked is not None:
            codes = torch.from_numpy(self.ranked.codes[i])
            self._generate(self.seed.value + 1, codes[: len(codes) // 2])

    def _generate(self, seed: int, prime: Tensor | None = None) -> None:
        caption, n, grid = self.caption.value, self.candidates.value, self.model.dvae.config.grid
        temperature, guidance = self.temperature.value, self.guidance.value
        given = None if prime is None else prime.flatten()

        def task() -> str:
            self.everything = None
            self._kept = None if prime is None else (0.0, 0.0, 1.0, len(prime) / grid)
            self.all_candidates.value = False
            self._changed()
            self.everything = self.model.generate(
                caption, n, n, seed, prime=given, progress=self._follow,
                temperature=temperature, guidance=guidance,
            )  # fmt: skip
            self._changed()
            return self._page()

        kept = None if given is None else tuple(given.tolist())
        self.work((caption, n, seed, temperature, guidance, kept), task)

    def _follow(self, steps: Iterable[Tensor]) -> Iterator[Tensor]:
        """Show the pictures grow, row by row."""
        grid = self.model.dvae.config.grid
        for drawn, codes in enumerate(steps, 1):
            self.bar.value = drawn
            if drawn % grid == 0 and drawn < grid**2:
                few = torch.nn.functional.pad(codes[: self.keep], (0, grid**2 - drawn))
                images = to_uint8(self.model.dvae.decode(few.reshape(-1, grid, grid)))
                self.pictures.value = growing(images, drawn // grid, grid)._repr_html_()
            yield codes

    def _page(self) -> str:
        """The HTML of the best pictures, or of all where that is wanted."""
        if self.everything is None or self.ranked is None:
            return ""
        note = "the frame marks what was kept" if self._kept else ""
        if self.all_candidates.value:
            grid = verdicts(self.everything, self._kept, note, columns=8, side=96)
        else:
            grid = verdicts(self.ranked, self._kept, note)
        return grid._repr_html_() + (f"<p>{note.capitalize()}.</p>" if note else "")

    def _show(self) -> None:
        if self.everything is not None:
            self.pictures.value = self._page()

    def _changed(self) -> None:
        for button in (*self.complete_buttons, self.all_candidates):
            button.disabled = self.everything is None
        for listener in self.listeners:
            listener()
