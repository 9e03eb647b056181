"""The third tab: from a picture to its caption, by the same models."""

import ipywidgets

from minidalle.describing import describe_picture, rank_captions
from minidalle.errors import MinidalleError
from minidalle.lab.playground.choice import ChoicePanel
from minidalle.lab.playground.draw import DrawPanel
from minidalle.lab.playground.panel import WIDE, as_html
from minidalle.pipeline import MiniDALLE

LANGUAGES = (("English", "en"), ("中文", "zh"))


class DescribePanel(ChoicePanel):
    """Describes a picture drawn in the first tab, or ranks captions of it."""

    def __init__(self, model: MiniDALLE, drawing: DrawPanel) -> None:
        super().__init__(drawing)
        self.model = model
        self.language = ipywidgets.Dropdown(options=LANGUAGES, description="language", **WIDE)
        self.captions = ipywidgets.Textarea(
            "a red car on the grass\na brown bear in the snow", description="captions", rows=4,
            layout=ipywidgets.Layout(width="460px"), **WIDE,
        )  # fmt: skip
        self.describe_button = ipywidgets.Button(description="Describe", button_style="primary")
        self.rank_button = ipywidgets.Button(description="Rank", tooltip="which caption is it?")
        self.buttons = [self.describe_button, self.rank_button]
        self.describe_button.on_click(lambda _: self.describe())
        self.rank_button.on_click(lambda _: self.rank())
        self.look()
        self.box = ipywidgets.VBox([
            self.choice, self.preview,
            ipywidgets.HBox([self.language, self.describe_button]),
            ipywidgets.HBox([self.captions, self.rank_button]),
            self.message, self.pictures,
        ])  # fmt: skip

    def describe(self) -> None:
        """Write the caption of the chosen picture."""

        def task() -> str:
            caption, _ = describe_picture(self.model, self.image, self.language.value)
            return f"<p><b>{as_html(caption)}</b></p>"

        self.work(("describe", self.language.value), task, "describing; this takes some seconds …")

    def rank(self) -> None:
        """Show the captions of the box with their probabilities, likeliest first."""

        def task() -> str:
            captions = [line for line in self.captions.value.splitlines() if line.strip()]
            if not captions:
                raise MinidalleError("captions are needed; write one per line")
            ranked = rank_captions(self.model, self.image, captions)
            rows = [f"<tr><td>{p:.3f}</td><td>{as_html(c)}</td></tr>" for c, p in ranked]
            return f"<table>{''.join(rows)}</table>"

        self.work(("rank", self.captions.value), task, "reading …")
