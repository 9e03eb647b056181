"""The gallery of diagrams: legible, with alt text, nothing overlaps, true to the code."""

import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from minidalle.lab import diagrams, figures
from minidalle.lab.diagrams import (
    attention,
    contrast,
    dvae,
    editing,
    latent,
    system,
    text,
    transformer,
)
from minidalle.lab.diagrams.canvas import Box, Canvas, heat, readable
from minidalle.lab.figures import Picture
from minidalle.training.presets import FULL

PARTS = {  # what the alternative text must name
    "adversarial_game": "generator discriminator noise caption real fake score opposite",
    "attention_head": "queries keys values scores softmax weights mixture",
    "balanced_sampling": "collection pictures green weights balanced effective sample size",
    "best_discriminator": "density p / (p + q) ½ Jensen–Shannon",
    "bpe_tree": "bytes merge token yellow 红色的熊",
    "cells_in_view": "hole prior past below masked codes visible MASK",
    "clip_towers": "image tower text tower embedding similarities diagonal",
    "context_cache": "Keys values candidates caption shared once codes MB",
    "course_map": "map chapters systems lines DALL·E GAN unCLIP",
    "cross_attention": "picture queries text keys values padding softmax weights mixture",
    "dropout_masks": "inputs hidden units output left out at random multiplied",
    "error_split": "prior rerank dVAE",
    "evidence": "kept free noise prior posterior −∞ code σ",
    "exposure_of_a_canary": "exposure canary names bits rank seen",
    "flow_paths": "noise data paths velocities mean cross",
    "generalisation_gap": "training validation loss updates lowest gap over-fitting",
    "great_circle": "unit vectors chord arc slerp angles length",
    "grid_and_random": "trials grid random values score peak",
    "growing": "tokenizer merges tokens dVAE prototypes k-means prior CLIP mean zero",
    "guided_flows": "clouds noise guidance caption overshoot",
    "guidance": "without the caption guided logits softmax",
    "gumbel_softmax": "logits noise τ softmax mixture one-hot argmax",
    "hidden_shares": "share hidden cos u strata batch at random",
    "hole_in_raster_order": "hole raster order past known candidates weight",
    "independent_cells": "joint product marginals halves 0.5 0.25 monsters",
    "kv_cache": "keys values queries scores computed read",
    "near_and_far": "layer window codes text rotary score distance",
    "nearest_prototype": "square prototypes nearest code decoder neighbours",
    "noisy_channel": "caption prior codes decoder channel noise Bayes",
    "one_gaussian_for_two": "likelihood covers both modes one mode Jensen–Shannon",
    "passes_over_a_picture": "passes prior raster order codes many far apart",
    "picture_denoiser": "patches stem context tokens transformer condition shift scale gate",
    "picture_to_codes": "pixels squares encoder code grid",
    "pipeline": "caption tokenizer tokens prior codes dVAE decoder pictures CLIP ranked",
    "projection_discriminator": "real pair fake mismatch weight features caption score",
    "pruned_matrix": "weights size half zero kept",
    "pulls_of_losses": "Minimax non-saturating hinge tutorials' pulls up down sure",
    "rerank_funnel": "candidates CLIP similarity sorted kept",
    "residual_block": "skip connection convolutions ReLU bottleneck gain added",
    "sign_step": "picture pixels box gradient sign corner loss ε",
    "splits_by_concept": "train validation test copy caption concept",
    "stream_and_targets": "BOS text tokens padding codes target 1/8 7/8",
    "stream_masks": "causal row column convolutional caption queries keys layers",
    "tempered_shares": "shares colours temperatures power entropy",
    "three_autoencoders": "encoder point Gaussian choices decoder KL uniform",
    "transformer_block": "residual stream norm attention MLP position added",
    "unclip_parts": "image tower vector caption prior flow decoder noise variations",
    "where_bias_enters": "world collection training drawing use temperature back",
    "where_text_enters": "stream encoder decoder keys values Modulation scales shifts mean order",
    "who_sees_whom": "causal bidirectional word row red seen",
}


class Sheet(NamedTuple):
    """A diagram, and the canvas on which it was drawn."""

    canvas: Canvas
    picture: Picture

    def extents(self) -> dict[str, Bbox]:
        """Every label and where it lies, in pixels from the upper left corner."""
        figure = self.canvas.figure
        figure.set_dpi(100)
        agg = FigureCanvasAgg(figure)
        agg.draw()
        found = {}
        for i, label in enumerate(self.canvas.texts):
            box = label.get_window_extent(agg.get_renderer())
            top, bottom = self.canvas.height - box.y1, self.canvas.height - box.y0
            found[f"{i} {label.get_text()!r}"] = Bbox([[box.x0, top], [box.x1, bottom]])
        return found

    def words(self) -> str:
        return "\n".join(label.get_text() for label in self.canvas.texts)


def draw(name: str, *args, **options) -> Sheet:
    """Draw a diagram, and keep its canvas."""
    kept = []
    finish = Canvas.picture

    def picture(self, alt):
        kept.append(self)
        return finish(self, alt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Canvas, "picture", picture)
        shown = getattr(diagrams, name)(*args, **options)
    return Sheet(kept[-1], shown)


drawn = cache(draw)


def faults(sheet: Sheet) -> list[str]:
    """Labels that leave the canvas, overlap, outgrow their box, or are crossed by a line."""
    canvas, extents = sheet.canvas, sheet.extents()
    found = [
        f"{name} leaves the canvas"
        for name, at in extents.items()
        if at.x0 < 0 or at.y0 < 0 or at.x1 > canvas.width or at.y1 > canvas.height
    ]
    for (one, a), (other, b) in combinations(extents.items(), 2):
        if min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0):
            found.append(f"{one} overlaps {other}")
    where = dict(zip(canvas.texts, extents.values(), strict=True))
    for label, box in canvas.fitted:
        at = where[label]
        if at.width > box.right - box.left or at.height > box.bottom - box.top + 2:
            found.append(f"{label.get_text()!r} outgrows its box")
    for start, end in canvas.lines:
        steps = np.linspace(start, end, 2 + int(np.hypot(*np.subtract(end, start))))
        for name, at in extents.items():
            inside = (steps > (at.x0, at.y0)) & (steps < (at.x1, at.y1))
            if inside.all(1).any():
                found.append(f"a line crosses {name}")
    return found


@pytest.mark.parametrize("name", diagrams.__all__)
def test_labels_are_legible_and_apart(name):
    sheet = drawn(name)
    assert not faults(sheet)
    assert min(label.get_fontsize() for label in sheet.canvas.texts) >= 9


@pytest.mark.parametrize("name", diagrams.__all__)
def test_pictures_fit_a_notebook_and_have_alt_text(name):
    picture = drawn(name).picture
    assert 700 <= picture.width <= 900 and len(picture.png) < 40_000
    words = PARTS[name].split()
    assert not [word for word in words if word not in picture.alt]
    assert len(picture.alt) > 100 and picture.alt in repr(picture)


def test_all_of_them_are_tested():
    assert sorted(PARTS) == diagrams.__all__ and len(PARTS) >= 16
    with pytest.raises(AttributeError, match="no diagram 'gan'"):
        diagrams.gan  # noqa: B018


@pytest.mark.parametrize("name", diagrams.__all__)
def test_drawing_is_quick_repeatable_and_takes_no_random_numbers(name):
    first = drawn(name).picture  # fonts and examples are at hand from here on
    torch.manual_seed(5)
    state = torch.get_rng_state()
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter without a glyph
        again = getattr(diagrams, name)()
    assert time.process_time() - started < 1
    assert again == first
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_chinese_font_code_points_are_shown(monkeypatch):
    """Catches rows of empty boxes on a machine without such a font."""
    monkeypatch.setattr(figures, "CHINESE", ())
    assert readable("红色") == "7EA2 8272" and readable("red") == "red"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sheet = draw("bpe_tree")
    assert "718A" in sheet.words() and not faults(sheet)


def test_pipeline_lights_parts_and_refuses_others():
    plain, lit = diagrams.pipeline(), diagrams.pipeline(("prior", "codes"))
    assert plain.png != lit.png and "Lit: prior and codes." in lit.alt
    assert not faults(draw("pipeline", lit=system.PARTS))
    assert diagrams.pipeline("CLIP").alt.endswith("Lit: CLIP.")
    with pytest.raises(ValueError, match="choose from: caption, tokenizer"):
        diagrams.pipeline("encoder")


def test_error_split_shows_a_report():
    sheet = draw("error_split", {"dvae": 0.08, "prior": 0.57, "rerank": 0.13})
    assert "30%" in sheet.words() and "57%" in sheet.words() and not faults(sheet)
    assert "an example" not in sheet.words() and "an example" in drawn("error_split").words()
    assert not faults(draw("error_split", {"dvae": 0.0, "prior": 0.0, "rerank": 0.0167}))


def test_numbers_follow_the_presets(monkeypatch):
    """Catches a fact that was typed into a diagram."""
    prior = replace(FULL.models["prior"], width=256, layers=12, heads=8, grid=8, text_weight=0.25)
    other = replace(
        FULL,
        models={
            **FULL.models,
            "prior": prior,
            "dvae": replace(
                FULL.models["dvae"], image_size=64, patch=8, codes=64, widths=(128,), code_width=192
            ),
            "clip": replace(FULL.models["clip"], embedding=77),
        },
    )
    for module in (attention, contrast, dvae, editing, latent, system, text, transformer):
        monkeypatch.setattr(module, "FULL", other)
    for name, facts in {
        "stream_and_targets": ("× 1/4", "× 3/4", "N = 64", "c₆₄"),
        "stream_masks": ("12 layers",),
        "attention_head": ("D = 256", "8 heads"),
        "transformer_block": ("one of 12 blocks", "8 heads"),
        "clip_towers": ("77 numbers",),
        "residual_block": ("128 channels",),
        "picture_to_codes": ("64 × 64 × 3", "f = 8", "K = 64"),
        "nearest_prototype": ("64 prototypes",),
        "three_autoencoders": ("8 × 8 choices of 1 in 64",),
        "pipeline": ("8 × 8 integers", "64 × 64 pixels"),
    }.items():
        sheet = draw(name)
        assert not [fact for fact in facts if fact not in sheet.words()], name
        assert not faults(sheet), name


def test_masks_are_the_packages_own(monkeypatch):
    monkeypatch.setattr(attention, "stream_mask", lambda *_: torch.ones(30, 30, dtype=torch.bool))
    assert diagrams.stream_masks().png != drawn("stream_masks").picture.png


def test_the_checks_see_faults():
    """Catches checks that pass whatever is drawn."""
    sheet = Canvas(200, 100)
    sheet.text(50, 50, "one")
    sheet.text(55, 52, "two")
    sheet.text(195, 20, "far out")
    sheet.box(100, 80, 20, 20, "too long")
    sheet.arrow((40, 45), (80, 55))
    found = "\n".join(faults(Sheet(sheet, sheet.picture("x"))))
    for fault in ("overlaps", "leaves", "outgrows", "crosses"):
        assert fault in found


def test_arrows_run_between_the_sides_that_face_each_other():
    sheet = Canvas(200, 100)
    sheet.arrow(Box(0, 0, 20, 20), Box(60, 0, 80, 20), gap=1)
    sheet.arrow(Box(0, 60, 20, 80), Box(0, 0, 20, 20), gap=1)
    assert sheet.lines == [((21, 10), (59, 10)), ((10, 59), (10, 21))]


def test_heat_is_white_at_zero_and_has_two_signs():
    colours = heat([[0.0, 1.0, -1.0]])[0]
    assert colours[0] == "#ffffff" and len(set(colours)) == 3


def test_diagrams_are_imported_when_drawn():
    code = (
        "import sys, minidalle\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import minidalle.lab\n"
        "assert 'minidalle.lab.diagrams' in sys.modules\n"
        "assert 'minidalle.lab.diagrams.canvas' not in sys.modules\n"
        "minidalle.lab.diagrams.kv_cache\n"
        "assert 'minidalle.lab.diagrams.attention' in sys.modules\n"
        "assert 'minidalle.lab.diagrams.dvae' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
