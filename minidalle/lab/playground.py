"""The playground: type a caption, move sliders, see the ranked pictures and what the judge says.

The same notebook is a lesson in JupyterLab and, served by Voilà, a web page.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from html import escape

import ipywidgets
import torch
from IPython.display import display

from minidalle.errors import MinidalleError
from minidalle.lab.figures import Grid, pictures
from minidalle.normalise import clean, normalise_caption, quote
from minidalle.pipeline import MiniDALLE, Ranked
from minidalle.world import judge

EXAMPLES = (
    "a big brown bear in the snow",
    "a red car to the left of a blue house",
    "three yellow stars at night",
    "一只红色的汽车停在草地上",
)


class Playground:
    """The widgets and their state. Its buttons call `draw()` and `complete(i)`."""

    def __init__(self, model: MiniDALLE, candidates: int = 16, keep: int = 4) -> None:
        self.model, self.keep = model, keep
        self.ranked: Ranked | None = None
        wide = {"style": {"description_width": "90px"}}
        usual = model.sampling
        self.caption = ipywidgets.Combobox(
            value=EXAMPLES[0], options=EXAMPLES, description="caption", ensure_option=False,
            layout=ipywidgets.Layout(width="460px"), **wide,
        )  # fmt: skip
        self.candidates = ipywidgets.IntSlider(
            candidates, keep, 64, description="candidates", **wide
        )
        self.temperature = ipywidgets.FloatSlider(
            usual.temperature, min=0.1, max=1.5, step=0.05, description="temperature", **wide
        )
        self.guidance = ipywidgets.FloatSlider(
            usual.guidance, min=1, max=5, step=0.25, description="guidance", **wide
        )
        self.seed = ipywidgets.IntSlider(0, 0, 99, description="seed", **wide)
        self.button = ipywidgets.Button(description="Draw", button_style="primary")
        self.bar = ipywidgets.IntProgress(0, 0, model.dvae.config.grid**2, description="")
        self.message, self.pictures = ipywidgets.HTML(), ipywidgets.HTML()
        self.complete_buttons = [
            ipywidgets.Button(description=f"complete {i + 1}", tooltip="keep its upper half")
            for i in range(keep)
        ]
        self.button.on_click(lambda _: self.draw())
        for i, button in enumerate(self.complete_buttons):
            button.on_click(lambda _, i=i: self.complete(i))
        for slider in (self.candidates, self.temperature, self.guidance, self.seed):
            slider.continuous_update = False
            slider.observe(lambda _: self.draw(), "value")
        self.box = ipywidgets.VBox([
            ipywidgets.HBox([self.caption, self.button]),
            ipywidgets.HBox([self.candidates, self.seed]),
            ipywidgets.HBox([self.temperature, self.guidance]),
            self.bar, self.message, self.pictures, ipywidgets.HBox(self.complete_buttons),
        ])  # fmt: skip

    def draw(self) -> None:
        """Draw the caption anew and show the best."""
        self._run(lambda: self.model.generate(
            self.caption.value, self.candidates.value, self.keep, self.seed.value,
            temperature=self.temperature.value, guidance=self.guidance.value,
            progress=self._follow,
        ))  # fmt: skip

    def complete(self, i: int) -> None:
        """Keep the upper half of picture i and draw the lower half again, once per picture kept."""
        if self.ranked is None:
            return
        caption, codes = self.ranked.caption, torch.from_numpy(self.ranked.codes[i])
        prime = codes[: len(codes) // 2].flatten()
        self._run(lambda: self.model.generate(
            caption, self.candidates.value, self.keep, self.seed.value + 1,
            prime=prime, temperature=self.temperature.value, guidance=self.guidance.value,
            progress=self._follow,
        ))  # fmt: skip

    def _follow(self, steps: Iterable) -> Iterator:
        for drawn, step in enumerate(steps, 1):
            self.bar.value = drawn
            yield step

    def _run(self, work: Callable[[], Ranked]) -> None:
        self.button.disabled = True
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                self.ranked = ranked = work()
            self.message.value = "<br>".join(_as_html(w.message) for w in caught)
            self.pictures.value = verdicts(ranked)._repr_html_()
        except MinidalleError as error:
            self.message.value = f"<b>{_as_html(error)}</b>"
        finally:
            self.button.disabled = False

    def show(self) -> None:
        """Draw once and display the widgets."""
        self.draw()
        display(self.box)


def _as_html(message: object) -> str:
    """A message as text of a page: it quotes captions and file names, which may hold markup."""
    return escape(clean(str(message)))


def verdicts(ranked: Ranked) -> Grid:
    """The ranked pictures, each with its similarity and what the judge says of it."""
    caption = normalise_caption(ranked.caption)  # as the models read it
    titles = []
    for image, similarity in zip(ranked.images, ranked.scores, strict=True):
        try:
            verdict = judge.score(image, caption)
            reading = "right" if verdict.right else "; ".join(verdict.reasons)
        except MinidalleError:
            reading = "not a storybook caption"
        titles.append(f"{similarity:.3f}\n{reading}")
    asked = quote(clean(ranked.caption))
    return pictures(
        list(ranked.images), titles, columns=4, side=150,
        alt=f"{len(titles)} pictures of {asked}, best first: " + "; ".join(titles),
    )  # fmt: skip
