"""From a file into a model, and out of an optimiser: the two ends of a checkpoint.

`settings` reads a config; `load_weights` refuses what does not fit and says where two configs
differ; `flatten` and `unflatten` take a nested state apart into tensors and JSON, and put it
together again.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from minidalle.errors import MinidalleError


def settings(kind: type, document: dict, what: str):
    """A config from JSON, where tuples have become lists. Raises MinidalleError, which names `what`
    it is of, where another release wrote it."""
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in document.items()})
    except TypeError as error:
        raise MinidalleError(
            f"{what} is of another release of minidalle ({error}): use that release, or train again"
        ) from error


def load_weights(
    model: nn.Module, state: Mapping[str, Tensor], *, file: Path, config: Any, saved_config: Any
) -> None:
    """Copy `state`, read from `file`, into `model`; the configs are dataclasses or dicts.

    Raises MinidalleError, and leaves the model as it was, if keys or shapes differ: it tells the
    keys, both shapes, and the fields in which the two configs differ.
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
    model.load_state_dict(state)


def _fields(config: Any) -> dict[str, Any]:
    fields = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config or {})
    return json.loads(json.dumps(fields, default=str))  # as a file gives it back: tuples are lists


def flatten(state: Any) -> tuple[dict[str, Tensor], dict]:
    """Part a nested state into tensors and a document, both fit for `save`: an optimiser's
    `state_dict()`, or a generator's state. `unflatten` gives it back exactly.

    Each container is tagged with its kind, since JSON knows neither tuples nor integer keys:

        {"lr": 0.1, "betas": (0.9, 0.99), "step": tensor}
        → {"dict": [["lr", 0.1], ["betas", {"tuple": [0.9, 0.99]}], ["step", {"tensor": "step"}]]}

    Raises TypeError for a value that is none of dict, list, tuple, tensor, number, text, None.
    """
    tensors: dict[str, Tensor] = {}

    def part(value: Any, name: str) -> Any:
        match value:
            case Tensor():
                while name in tensors:  # {"a.b": …, "a": {"b": …}}
                    name += "'"
                tensors[name] = value
                return {"tensor": name}
            case dict():
                return {"dict": [[part(k, name), part(v, f"{name}.{k}")] for k, v in value.items()]}
            case list() | tuple():
                kind = "list" if isinstance(value, list) else "tuple"
                return {kind: [part(item, f"{name}.{i}") for i, item in enumerate(value)]}
            case None | bool() | int() | float() | str():
                return value
        raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint cannot hold")

    return tensors, {"state": part(state, "state")}


def unflatten(tensors: Mapping[str, Tensor], document: dict) -> Any:
    """Put together again what `flatten` parted."""

    def join(tree: Any) -> Any:
        match tree:
            case {"tensor": name}:
                return tensors[name]
            case {"dict": pairs}:
                return {join(key): join(value) for key, value in pairs}
            case {"list": items}:
                return [join(item) for item in items]
            case {"tuple": items}:
                return tuple(join(item) for item in items)
        return tree

    return join(document["state"])
