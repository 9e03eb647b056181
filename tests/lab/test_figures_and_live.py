"""What the notebooks show: each figure has its words, each widget redraws, live is live."""

import base64
import io
import re
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

from minidalle.lab import (
    bars,
    curves,
    explore,
    live,
    matrix,
    notebooks,
    pictures,
    scatter,
    show_source,
    shown,
    system_map,
    watch,
)
from minidalle.lab.figures import Picture, as_uint8
from minidalle.lab.grids import MARK, SHARP, wrap
from minidalle.lab.maps import BOXES


def size(picture):
    return Image.open(io.BytesIO(picture.png)).size


FIGURES = {
    "curves": lambda: curves({"loss": [3.0, 2.0, 1.0]}, labels=("step", "nats")),
    "bars": lambda: bars({"one": 0.5, "two": 0.25}, title="shares"),
    "scatter": lambda: scatter({"points": ([1, 2], [3, 4])}, title="cloud"),
    "matrix": lambda: matrix({"mask": np.eye(4)}),
    "map": lambda: system_map("prior"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pngs_with_words(name):
    picture = FIGURES[name]()
    width, height = size(picture)
    assert width >= 1.4 * picture.width and height > 20
    assert len(picture.alt) > 10 and picture.alt in repr(picture)
    assert len(picture.png) < 40_000


def test_alternative_text_tells_the_numbers():
    assert "from 3 to 1" in FIGURES["curves"]().alt
    assert "one 0.5" in FIGURES["bars"]().alt


def test_words_cannot_break_the_page():
    page = Picture(b"", 'a "quoted" <b>', 10)._repr_html_()
    assert "&lt;b&gt;" in page and "&quot;quoted&quot;" in page


def test_pictures_from_tensors_and_arrays_are_the_same():
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1) / 255
    assert np.array_equal(as_uint8(tensor), array)
    assert pictures([array]).pngs == pictures([tensor]).pngs


def test_a_grid_keeps_pictures_at_their_own_size_with_titles_as_text():
    """Enlarged copies made notebooks of a megabyte; a drawn title had no Chinese and no ×."""
    grid = pictures([np.zeros((48, 48, 3), np.uint8)] * 3, ["红色\n4 × 4", "<b>"], side=100)
    assert grid.side == 96
    assert [Image.open(io.BytesIO(png)).size for png in grid.pngs] == [(48, 48)] * 3
    page = grid._repr_html_()
    assert page.count("<img") == 3 and page.count('width="96"') == 3
    assert "红色<br>4 × 4" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert grid.alt == "3 pictures: 红色, 4 × 4; <b>" and grid.alt in repr(grid)
    assert 'role="img"' in page and "aria-label=" in page
    assert page.count("image-rendering:pixelated") == 3


@pytest.mark.parametrize(("own", "side", "shown"), [(48, 88, 96), (48, 40, 48), (12, 100, 96),
                                                    (48, 150, 144), (256, 100, 100)])  # fmt: skip
def test_pictures_are_enlarged_by_whole_numbers(own, side, shown):
    """Catches pixels of different widths; a picture far larger than its place shrinks."""
    assert pictures([np.zeros((own, own, 3), np.uint8)], side=side).side == shown


def test_a_grid_is_one_png_of_whole_pixels_with_titles():
    image = np.zeros((48, 48, 3), np.uint8)
    image[:, ::2] = 255, 0, 0
    grid = pictures([image] * 3, ["a", "two\nlines", ""], columns=2, side=48)
    png, width = grid.as_png()
    sheet = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert width == 2 * (48 + 8) and sheet.shape[1] == 2 * width
    assert (sheet[:96, :96] == image.repeat(2, 0).repeat(2, 1)).all()
    titles = sheet[96 : 96 + 60]
    assert (titles[:, :96] < 128).any() and (titles[30:, 112:208] < 128).any()
    assert (sheet[-20:, 112:] == 255).all()  # the third picture has no neighbour
    plain, _ = pictures([image] * 3, columns=2, side=48).as_png()
    assert Image.open(io.BytesIO(plain)).height < len(sheet)


@pytest.mark.parametrize(("mark", "colour"), [("✓", (0, 158, 115)), ("✗", (213, 94, 0))])
def test_marks_are_drawn_and_leave_the_words_in_their_font(mark, colour):
    """Catches a mark that pushes its line, and no other, into a font that happens to have it."""
    words, room = "a red car on the grass", MARK * SHARP
    images = [np.zeros((8, 8, 3), np.uint8)]
    marked, plain = (
        np.asarray(
            Image.open(io.BytesIO(pictures(images, [t], side=200).as_png()[0])).convert("RGB")
        )
        for t in (f"{mark} {words}", words)
    )
    below = 200 * SHARP
    assert (np.abs(marked[below:, :room] - np.array(colour)).max(-1) < 8).sum() > 20
    assert np.array_equal(marked[below:, room:], plain[below:, :-room])
    alone = Image.open(io.BytesIO(pictures(images, [mark], side=200).as_png()[0]))
    assert alone.height > below


def test_long_titles_are_wrapped_and_whole():
    words = "a small red car to the left of a big blue house on the grass"
    lines = wrap(words, 192)
    assert " ".join(lines) == words and len(lines) > 2
    assert "".join(wrap("红色的汽车停在草地上面" * 3, 100)) == "红色的汽车停在草地上面" * 3


def test_a_frame_marks_a_part_of_every_picture():
    image = np.zeros((48, 48, 3), np.uint8)
    grid = pictures([image] * 2, side=48, frame=(0, 0, 1, 0.5))
    assert grid._repr_html_().count("height:24px;box-sizing") == 2
    sheet = np.asarray(Image.open(io.BytesIO(grid.as_png()[0])).convert("RGB"))
    orange = (abs(sheet.astype(int) - (0xD5, 0x5E, 0)).max(-1) < 3).nonzero()
    assert (orange[0].min(), orange[0].max()) == (0, 47)


@pytest.mark.parametrize("figure", [
    lambda: bars({"a": 1.0}, title='a "b" <c>'),
    lambda: pictures([np.zeros((8, 8, 3), np.uint8)], ['a "b" <c>']),
])  # fmt: skip
def test_figures_show_in_every_viewer_with_their_words(figure, monkeypatch):
    """Hosting sites drop pictures inside HTML; JupyterLab gives no words to a PNG."""
    out, figure = [], figure()
    monkeypatch.setattr(shown, "display", lambda data, **options: out.append((data, options)))
    figure._ipython_display_()
    (words, _), (data, options) = out
    assert "&quot;b&quot; &lt;c&gt;" in words["text/html"] and "alt=" in words["text/html"]
    pixel = base64.b64decode(re.search(r'base64,([^"]+)"', words["text/html"])[1])
    assert Image.open(io.BytesIO(pixel)).convert("RGBA").getpixel((0, 0))[3] == 0
    assert "text/html" not in data and data["text/plain"] == f"[{figure.alt}]"
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert options["metadata"]["image/png"]["alt"] == figure.alt
    assert options["metadata"]["image/png"]["width"] == figure.as_png()[1]


def test_figures_are_stored_once():
    """Catches HTML beside the PNG, which doubles the size of every notebook."""
    cell = nbformat.v4.new_code_cell(
        "from minidalle.lab import bars\nbars({'one': 1.0}, title='a chart')"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, kernel_name="python3").execute()
    notebooks.normalise(notebook, "00", 0.0, "class")
    words, chart = notebook.cells[0].outputs
    assert "a chart" in words["data"]["text/html"] and len(words["data"]["text/html"]) < 300
    assert set(chart["data"]) == {"image/png", "text/plain"}
    assert chart["metadata"]["image/png"]["width"] == 640
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert page.count(chart["data"]["image/png"]) == 1 and 'width="640"' in page


def test_map_lights_boxes_and_refuses_others():
    assert system_map("prior").png != system_map("CLIP").png
    assert "Lit: prior" in system_map("prior").alt
    with pytest.raises(ValueError, match="captions"):
        system_map("encoder")
    assert all(name in system_map(name).alt for name in BOXES if name not in {"quantiser"})


def test_source_is_the_packages_own():
    text = show_source(live.smooth).data
    assert "minidalle/lab/live.py" in text and "def smooth(" in text


def test_listings_have_a_fixed_width_font_in_exported_pages():
    """nbconvert lets the listing of an output inherit the font of prose."""
    output = nbformat.v4.new_output(
        "display_data", {"text/markdown": show_source(live.smooth).data}
    )
    cell = nbformat.v4.new_code_cell("0", outputs=[output])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    listing = re.search(r'<div style="font-family: ([^"]*)">\s*<div class="highlight"><pre>', page)
    assert listing and "monospace" in listing[1]


class Record(NamedTuple):
    step: int
    losses: dict


def test_watch_returns_every_record_and_ends_with_the_whole_curve(monkeypatch):
    shown, panels, last = [], [], []

    class Handle:
        def update(self, page):
            shown.append(page.data)

    def display(*things, **_):
        last[:] = things
        return Handle()

    monkeypatch.setattr(live, "display", display)
    records = [Record(i, {"total": 1 / i, "nll": 2.0}) for i in range(1, 41)]
    history = watch(
        iter(records), 40, panel=lambda: panels.append(1) or bars({"a": 1.0}, title="panel one")
    )
    assert history == records
    assert len(panels) == len(live.looks(40)) == 5
    assert shown[-2].count("<img") == 2 and "s left" in shown[0]
    assert 'value="40" max="40"' in shown[-1] and "s in all" in shown[-1]
    assert "<img" not in shown[-1]  # the last figures are stored once, as PNGs
    assert ["loss" in figure.alt or "panel" in figure.alt for figure in last] == [True, True]


def test_looks_are_spaced_by_their_logarithm():
    """Catches a last look that is missing or doubled, and a training of few steps without one."""
    assert sorted(live.looks(1500)) == [1, 3, 10, 30, 100, 300, 1000, 1500]
    assert sorted(live.looks(100)) == [1, 3, 10, 30, 100] and live.looks(1) == {1}


def test_smooth_is_a_mean_that_forgets():
    assert live.smooth([2.0] * 50) == pytest.approx([2.0] * 50)
    rising = live.smooth([0.0] * 100 + [1.0] * 100)
    assert rising[99] == 0 and 0 < rising[100] < 0.7 and rising[-1] > 0.99


def test_explore_redraws_when_a_slider_moves():
    asked = []

    def draw(n, x, kind, on):
        asked.append((n, x, kind, on))
        return bars({"n": n}, title=f"n is {n}")

    box = explore(draw, n=(1, 9, 3), x=(0.0, 1.0, 0.5, 0.1), kind=["a", "b"], on=True)
    controls, page = box.children[0].children, box.children[1]
    assert asked == [(3, 0.5, "a", True)] and "n is 3" in page.value
    controls[0].value = 7
    controls[2].value = "b"
    assert asked[-1] == (7, 0.5, "b", True) and "n is 7" in page.value


def test_notebooks_are_normalised():
    """Two runs must differ in nothing but what is truly random."""
    cell = nbformat.v4.new_code_cell("1 + 1")
    cell.execution_count = 7
    cell.metadata = {"execution": {"iopub.status.busy": "now"}, "tags": ["keep"]}
    cell.outputs = [
        nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=7),
        nbformat.v4.new_output("display_data", {notebooks.WIDGET: {}, "text/plain": "Box()"}),
    ]
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    notebooks.normalise(notebook, "00_start", 1.5, "class")
    nbformat.validate(notebook)
    (kept,) = notebook.cells
    assert (kept.id, kept.execution_count, kept.metadata) == (
        "00-start-00",
        1,  # as if run once, from top to bottom
        {"tags": ["keep"]},
    )
    assert [o.output_type for o in kept.outputs] == ["execute_result"]
    assert notebook.metadata["minidalle"]["minutes"] == 1.5 and "widgets" not in notebook.metadata


def test_a_notebook_runs_at_the_preset_asked_for(tmp_path):
    source = "from minidalle import presets\nprint(presets.preset().name)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    path = tmp_path / "99_small.ipynb"
    nbformat.write(notebook, path)
    done = notebooks.run(path, "smoke")
    assert done.cells[0].outputs[0].text == "smoke\n"


def test_table_lists_every_notebook(tmp_path):
    for name in ("00_a", "01_b"):
        cell = nbformat.v4.new_markdown_cell(f"# {name} title")
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"{name}.ipynb")
    lines = notebooks.table(tmp_path).splitlines()
    assert len(lines) == 4 and "[00_a title](" in lines[2]
