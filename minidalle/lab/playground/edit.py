"""The second tab: part of a picture is drawn anew, or its noise is removed."""

import ipywidgets
import numpy as np

from minidalle.editing import Region, edit, repair
from minidalle.errors import MinidalleError
from minidalle.lab.grids import Frame, pictures
from minidalle.lab.playground.choice import ChoicePanel
from minidalle.lab.playground.draw import DrawPanel
from minidalle.lab.playground.panel import WIDE
from minidalle.lab.playground.views import verdicts
from minidalle.pipeline import MiniDALLE
from minidalle.world.finding import find_thing

CANDIDATES, REPAIRS = 8, 4
SIDES = ("left", "top", "right", "bottom")


class EditPanel(ChoicePanel):
    """Four sliders choose a region of a picture drawn in the first tab, or words choose a thing."""

    def __init__(self, model: MiniDALLE, drawing: DrawPanel) -> None:
        super().__init__(drawing)
        self.model = model
        size, step = model.dvae.config.image_size, model.dvae.config.factor
        self.caption = ipywidgets.Text(
            description="caption", placeholder="what the whole picture shall show",
            continuous_update=False, layout=ipywidgets.Layout(width="460px"), **WIDE,
        )  # fmt: skip
        start = (0, size // 2, size, size)
        self.sides = [
            ipywidgets.IntSlider(value, 0, size, step, description=name, **WIDE)
            for name, value in zip(SIDES, start, strict=True)
        ]
        self.thing = ipywidgets.Text(
            description="thing", placeholder="the red car", continuous_update=False, **WIDE
        )
        self.noise = ipywidgets.FloatSlider(
            0.15, min=0, max=0.3, step=0.01, description="noise", continuous_update=False, **WIDE
        )
        self.edit_button = ipywidgets.Button(description="Draw anew", button_style="primary")
        self.find_button = ipywidgets.Button(description="Find", tooltip="set the region by words")
        self.repair_button = ipywidgets.Button(description="Repair", tooltip="add noise, remove it")
        self.buttons = [self.edit_button, self.find_button, self.repair_button]
        self._connect()
        regions = (ipywidgets.HBox(self.sides[:2]), ipywidgets.HBox(self.sides[2:]))
        self.box = ipywidgets.VBox([
            self.choice, self.preview, self.caption, *regions,
            ipywidgets.HBox([self.thing, self.find_button, self.edit_button]),
            ipywidgets.HBox([self.noise, self.repair_button]),
            self.message, self.pictures,
        ])  # fmt: skip

    def _connect(self) -> None:
        self.edit_button.on_click(lambda _: self.edit())
        self.find_button.on_click(lambda _: self.find())
        self.repair_button.on_click(lambda _: self.repair())
        self.caption.observe(lambda _: self.edit(), "value")
        self.thing.observe(lambda _: self.find(), "value")
        for slider in self.sides:
            slider.observe(lambda _: self.look(), "value")
        self.look()

    @property
    def region(self) -> Region:
        """x0, y0, x1, y1 in pixels."""
        x0, y0, x1, y1 = (slider.value for slider in self.sides)
        return x0, y0, x1, y1

    @property
    def frame(self) -> Frame | None:
        """The region as shares of the picture."""
        x0, y0, x1, y1 = (at / self.model.dvae.config.image_size for at in self.region)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None

    def edit(self) -> None:
        """Draw the region anew, so that the picture shows the caption."""
        caption, region, frame, drawn = self.caption.value, self.region, self.frame, self.drawing
        sampling = {"temperature": drawn.temperature.value, "guidance": drawn.guidance.value}

        def task() -> str:
            image = self.image
            if not caption.strip():
                raise MinidalleError("a caption is needed; say what the whole picture shall show")
            ranked = edit(
                self.model, image, caption, region, CANDIDATES, drawn.keep, drawn.seed.value,
                **sampling,
            )  # fmt: skip
            note = "the frame marks what was drawn anew"
            return f"{verdicts(ranked, frame, note)._repr_html_()}<p>{note.capitalize()}.</p>"

        request = ("edit", caption, region, drawn.seed.value, *sampling.values())
        self.work(request, task, "drawing …")

    def find(self) -> None:
        """Set the region to the cells of the thing that the words name."""

        def task() -> str:
            found, cell = find_thing(self.image, self.thing.value), self.model.dvae.config.factor
            first = [at // cell * cell for at in found[:2]]
            last = [-(-at // cell) * cell for at in found[2:]]
            for slider, value in zip(self.sides, first + last, strict=True):
                slider.value = value
            return ""

        self.work(object(), task)  # the sliders may have moved since

    def repair(self) -> None:
        """Add noise to the picture and remove it again."""

        sigma, seed = self.noise.value, self.drawing.seed.value

        def task() -> str:
            image = self.image
            noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
            noisy = (image + 255 * noise).round().clip(0, 255).astype(np.uint8)
            ranked = repair(self.model, noisy, self.caption.value, candidates=REPAIRS)
            titles = ("the picture", f"with noise {sigma:.2f}", "repaired")
            return pictures([image, noisy, ranked.images[0]], titles, side=144)._repr_html_()

        self.work(("repair", self.caption.value, sigma, seed), task, "repairing …")
