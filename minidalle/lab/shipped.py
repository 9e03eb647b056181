"""What ships beside the bundle for chapter 08: moments of the training that made its prior.

    data/half-trained/
        prior.safetensors   the weights of a half-trained prior, in half precision
        film.png            one row per moment, one column per caption
        film.json           {"steps": […], "captions": […], "half_trained_at": step, "of": steps}

`tests/benchmarks/half_trained.py` makes all three from the checkpoints of a run.
"""

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors

from minidalle.bundle import build, default_bundle
from minidalle.errors import MinidalleError
from minidalle.files import REMEDY, read_file
from minidalle.pipeline import MiniDALLE
from minidalle.prior import Prior

WEIGHTS, PICTURES, INDEX = "prior.safetensors", "film.png", "film.json"


class FilmIndex(NamedTuple):
    """What film.json holds."""

    steps: list[int]  # updates at each moment, one row of the film each
    captions: list[str]  # one column each
    half_trained_at: int  # updates that the half-trained prior has had
    of: int  # updates of the whole training


def folder() -> Path:
    """Where the files are: beside the bundle that ships."""
    return default_bundle().parent / "half-trained"


def half_trained_prior(model: MiniDALLE) -> Prior:
    """A new copy of the half-trained prior, ready to be trained on; it fits the bundle `model`.

    Raises MinidalleError where its file is missing, damaged, or of another bundle.
    """
    file, config = folder() / WEIGHTS, model.prior.config
    try:
        state = parse_tensors(_read(file))
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise MinidalleError(f"{file} is damaged ({error}); {REMEDY}") from error
    prior = build(Prior, config, state, file, config)
    assert isinstance(prior, Prior)
    return prior.to(model.device)


def film_index() -> FilmIndex:
    """Steps and captions of the film. Raises MinidalleError where it is missing or damaged."""
    file = folder() / INDEX
    try:
        return FilmIndex(**json.loads(_read(file)))
    except (ValueError, TypeError) as error:
        raise MinidalleError(f"{file} is damaged ({error}); {REMEDY}") from error


def film_captions() -> list[str]:
    """The captions of the film, in the order of its columns."""
    return film_index().captions


def shipped_film() -> dict[int, list[np.ndarray]]:
    """The pictures that the shipped prior drew while it was trained: step → one per caption.

    Pictures are uint8, S × S × 3. Raises MinidalleError where the film is missing or damaged.
    """
    index, file = film_index(), folder() / PICTURES
    try:
        sheet = np.asarray(Image.open(io.BytesIO(_read(file))).convert("RGB"))
    except (OSError, ValueError) as error:
        raise MinidalleError(f"{file} is damaged ({error}); {REMEDY}") from error
    rows, columns = len(index.steps), len(index.captions)
    side = sheet.shape[0] // max(1, rows)
    if not side or sheet.shape != (rows * side, columns * side, 3):
        height, width = sheet.shape[:2]
        raise MinidalleError(
            f"{file} is {width} × {height} pixels, and {INDEX} names {rows} moments of {columns}"
            f" captions; {REMEDY}"
        )
    tiles = sheet.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return {step: list(row) for step, row in zip(index.steps, tiles, strict=True)}


def _read(file: Path) -> bytes:
    if not file.exists():
        raise MinidalleError(
            f"{file} is missing: get the whole repository, with data/{file.parent.name}"
        )
    return read_file(file)
