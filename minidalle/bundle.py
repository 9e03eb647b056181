"""A bundle on the disk: one directory with all that belongs together.

    bundle/
        tokenizer.json, dvae.safetensors, prior.safetensors, clip.safetensors
        config.json          the models' shapes
        info.json            how to sample, and the words that training used
        manifest.json        the format, and the length and SHA-256 of each file

Two ideas keep it sound. *Saving never changes a file in place*: the new bundle is written beside
the old one, and renamed to its place when it is complete. *Loading believes nothing*: each file is
hashed before it is parsed, and neither JSON nor safetensors can carry code.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from minidalle.clip import CLIP, CLIPConfig
from minidalle.dvae import DVAE, DVAEConfig
from minidalle.errors import MinidalleError
from minidalle.files import REMEDY, read_directory, to_json, write_directory
from minidalle.prior import Prior, PriorConfig
from minidalle.tokenizer import Tokenizer

MODELS: dict[str, tuple[Any, Any]] = {  # classes of the model and of its config
    "dvae": (DVAE, DVAEConfig),
    "prior": (Prior, PriorConfig),
    "clip": (CLIP, CLIPConfig),
}
# Bundles of November 2026 and before have these names; they load as ever.
OLD_FIELDS = {"encoder_sight": "encoder_num_3x3", "decoder_sight": "decoder_num_3x3"}
OLD_WEIGHTS = {  # of CLIP
    "scale": "logit_scale",
    "words.weight": "token_embedding.weight",
    "image_tower.summary": "image_tower.class_embedding",
    "text_tower.summary": "text_tower.class_embedding",
}

Config = TypeVar("Config")


class Bundle(NamedTuple):
    """A trained DALL·E: four parts, and what must be known to use them."""

    tokenizer: Tokenizer
    dvae: DVAE
    prior: Prior
    clip: CLIP
    info: dict[str, Any]


def default_bundle() -> Path:
    """The bundle that ships: inside an installed wheel, or in data/ of a checkout."""
    here = Path(__file__).parent
    inside = here / "data" / "bundle"
    return inside if inside.exists() else here.parent / "data" / "bundle"


# --- Saving ---------------------------------------------------------------------------------------


def save_bundle(directory: str | Path, bundle: Bundle) -> Path:
    """Write a bundle, weights in half precision: what is drawn is the same to the eye.

    Raises MinidalleError if it cannot be written, or if anything else is in the way.
    """
    models: dict[str, Any] = {name: getattr(bundle, name) for name in MODELS}
    documents = {
        "config": {name: dataclasses.asdict(model.config) for name, model in models.items()},
        "tokenizer": bundle.tokenizer.to_json(),
        "info": bundle.info,
    }
    files = {
        f"{name}.safetensors": tensor_bytes({k: _half(v) for k, v in model.state_dict().items()})
        for name, model in models.items()
    }
    files |= {f"{name}.json": to_json(document) for name, document in documents.items()}
    return write_directory(Path(directory), files)


def _half(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


# --- Loading --------------------------------------------------------------------------------------


def load_bundle(directory: str | Path) -> Bundle:
    """Read a bundle, weights in float32 on the CPU. Raises MinidalleError, naming file and cause,
    for one that is missing, damaged, incomplete or of another format."""
    directory = Path(directory)
    if directory.is_file():
        raise MinidalleError(
            f"{directory} is a file, and not a bundle: name the directory that minidalle train all"
            " has written (OUT/bundle)"
        )
    if (directory / "run.json").exists() and not (directory / "manifest.json").exists():
        raise MinidalleError(
            f"{directory} is still in training and has no bundle yet: finish it with minidalle"
            " train all --resume"
        )
    tensors, documents = read_directory(directory)
    missing = sorted(MODELS.keys() - tensors.keys())
    missing += sorted({"tokenizer", "config", "info"} - documents.keys())
    if missing:
        raise MinidalleError(
            f"{directory} is not a bundle: it has no {missing[0]}; name the directory that"
            " minidalle train all has written (OUT/bundle)"
        )
    models: dict[str, Any] = {}
    for name, (kind, config_kind) in MODELS.items():
        saved = documents["config"].get(name) if isinstance(documents["config"], dict) else None
        if not isinstance(saved, dict):
            raise MinidalleError(f"{directory / 'config.json'} has no config of {name}; {REMEDY}")
        saved = {OLD_FIELDS.get(field, field): value for field, value in saved.items()}
        config = config_from_dict(config_kind, saved, f"{directory}: the {name}")
        old = OLD_WEIGHTS if name == "clip" else {}
        state = {old.get(key, key): value for key, value in tensors[name].items()}
        models[name] = build(kind, config, state, directory / f"{name}.safetensors", saved)
    tokenizer = Tokenizer.from_json(documents["tokenizer"], file=directory / "tokenizer.json")
    bundle = Bundle(tokenizer, **models, info=documents["info"])
    _check_parts(bundle, directory)
    return bundle


def _check_parts(bundle: Bundle, directory: Path) -> None:
    """Raises MinidalleError where two parts of a bundle cannot work together."""
    tokenizer, dvae, prior, clip, info = bundle
    sizes = {
        "the prior's vocab_size": (prior.config.vocab_size, tokenizer.vocab_size, "the tokenizer"),
        "CLIP's vocab_size": (clip.config.vocab_size, tokenizer.vocab_size, "the tokenizer"),
        "the prior's codes": (prior.config.codes, dvae.config.codes, "the dVAE"),
        "the prior's grid": (prior.config.grid, dvae.config.grid, "the dVAE"),
        "CLIP's image_size": (clip.config.image_size, dvae.config.image_size, "the dVAE"),
    }
    for name, (ours, theirs, part) in sizes.items():
        if ours != theirs:
            raise MinidalleError(
                f"{directory}: {name} is {ours} and {part} has {theirs}: these parts were not"
                f" trained together; {REMEDY}"
            )
    words = info.get("words", []) if isinstance(info, dict) else None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise MinidalleError(f"{directory / 'info.json'}: words is not a list of texts; {REMEDY}")


# --- From a file into a model ---------------------------------------------------------------------


def build(
    kind: Any, config: Any, state: Mapping[str, Tensor], file: Path, saved_config: Any
) -> nn.Module:
    """A model with weights from a file. Shapes are compared before any memory is allocated.

    Raises MinidalleError where the weights do not fit the config, or are no finite numbers.
    """
    try:
        with torch.device("meta"):
            shapes = kind(config)
    except MinidalleError as error:  # sizes that do not go together
        raise MinidalleError(f"{file}: {error}; {REMEDY}") from error
    check_weights(shapes, state, file=file, config=config, saved_config=saved_config)
    model = kind(config)
    load_weights(model, state, file=file, config=config, saved_config=saved_config)
    return model


def config_from_dict(kind: type[Config], document: Mapping[str, Any], what: str) -> Config:
    """A config from JSON, where tuples have become lists. Raises MinidalleError, which names `what`
    it belongs to, where another release wrote it."""
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in document.items()})
    except MinidalleError as error:
        raise MinidalleError(f"{what}: {error}; {REMEDY}") from error
    except (TypeError, AttributeError) as error:
        raise MinidalleError(
            f"{what} is of another release of minidalle ({error}): use that release, or train again"
        ) from error


def load_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, file: Path, config: Any, saved_config: Any
) -> None:
    """Copy `state`, read from `file`, into `model`; the configs are dataclasses or dicts.

    Raises MinidalleError as `check_weights` does, and then leaves the model as it was.
    """
    check_weights(model, state, file=file, config=config, saved_config=saved_config)
    model.load_state_dict(state)


def check_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, file: Path, config: Any, saved_config: Any
) -> None:
    """Raises MinidalleError if keys, shapes or kinds of number differ, or a weight is not finite.

    The message has the keys, both shapes, and the fields in which the two configs differ.
    """
    mine = model.state_dict()
    faults = [f"{key} is missing from the file" for key in mine if key not in state]
    faults += [f"{key} is unknown to the model" for key in state if key not in mine]
    faults += [
        f"{key} is {tuple(state[key].shape)} in the file and {tuple(mine[key].shape)} in the model"
        for key in mine
        if key in state and state[key].shape != mine[key].shape
    ]
    if faults:
        theirs, ours = _fields(saved_config), _fields(config)
        differing = [
            f"{name} is {theirs.get(name)} in the file and {ours.get(name)} in the model"
            for name in sorted(theirs.keys() | ours.keys())
            if theirs.get(name) != ours.get(name)
        ]
        more = f", and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise MinidalleError(
            f"{file} does not fit this model: {', '.join(faults[:8])}{more}; config: "
            f"{', '.join(differing) or 'no difference'}; build the model with the file's config, "
            "or choose a file that was saved with this one"
        )
    for key, value in state.items():
        if value.is_floating_point() != mine[key].is_floating_point() or value.is_complex():
            raise MinidalleError(
                f"{file}: {key} holds {value.dtype}, not {mine[key].dtype}; {REMEDY}"
            )
        if not value.isfinite().all():
            raise MinidalleError(f"{file}: {key} holds NaN or infinite weights; {REMEDY}")


def _fields(config: Any) -> dict[str, Any]:
    is_config = dataclasses.is_dataclass(config) and not isinstance(config, type)
    fields = dataclasses.asdict(config) if is_config else dict(config or {})
    return json.loads(json.dumps(fields, default=str))  # as a file gives it back: tuples are lists
