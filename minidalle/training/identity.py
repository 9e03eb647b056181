"""What a run directory is trained on, written down so that nothing else gets mixed in.

`run.json` holds the name of the source and the sizes of the preset. Without it, a dVAE of one
preset and a prior of another could end in one bundle, without a word. Since somebody may delete or
edit it, each checkpoint is compared too: it holds its source and the sizes of its model.
"""

import json
from pathlib import Path
from typing import Any

from torch import nn

from minidalle.errors import MinidalleError
from minidalle.files import fingerprint, read_file, to_json, write_file
from minidalle.training import checkpoint, distributed

# Sizes of a model that the source and the earlier stages set, and not the preset.
DERIVED = {"image_size", "vocab_size", "codes", "grid", "look_size"}
DERIVED_OF = {"unclip": {"embedding"}}  # that of CLIP, whose own it is


def check_identity(out: Path, source: str, sizes: dict[str, Any]) -> None:
    """Write `out`/run.json, or compare with the one there.

    Raises MinidalleError where the directory is trained on another source or at other sizes.
    """
    file = out / "run.json"
    if distributed.is_main_process() and not file.exists():
        _check_checkpoints(out, source, sizes)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MinidalleError(
                f"cannot make {out}: {error.strerror}; choose another --out"
            ) from error
        write_file(file, to_json({"source": source, "sizes": sizes}))
    distributed.barrier()
    try:
        known = json.loads(read_file(file))
        known_source, known_sizes = known["source"], dict(known["sizes"])
    except (MinidalleError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MinidalleError(
            f"{file} is damaged: delete it, and the same command writes it again"
        ) from error
    _check_same(out, (known_source, known_sizes), (source, sizes))


def _check_checkpoints(out: Path, source: str, sizes: dict[str, Any]) -> None:
    """Compare the stages of a run without `run.json`: deleted, or trained by an older release."""
    for stage in sizes:
        for file in checkpoint.steps(out / stage)[:1]:
            try:
                metadata = checkpoint.load(file)[1]
            except MinidalleError:
                continue  # whoever reads it will say so
            check_checkpoint(file, stage, metadata, source, sizes)


def check_checkpoint(
    file: Path, stage: str, metadata: dict[str, Any], source: str, sizes: dict[str, Any]
) -> None:
    """Raises MinidalleError where a checkpoint has another source, or its model other sizes."""
    derived = DERIVED | DERIVED_OF.get(stage, set())
    model = {k: v for k, v in metadata["model_config"].items() if k not in derived}
    is_known = isinstance(sizes.get(stage), dict)  # not with --init, which has hashes of weights
    known = metadata.get("source", source), {stage: model} if is_known else {}
    _check_same(file, known, (source, sizes))


def _check_same(path: Path, known: tuple[str, dict], now: tuple[str, dict]) -> None:
    """Raises MinidalleError where two (source, sizes) differ; fields only in `now` are ignored."""
    if known[0] != now[0]:
        raise MinidalleError(
            f"{path} is trained on {known[0]}, and this is {now[0]}: give it the same --data,"
            " --caption-column and --crop again (of the storybook, --seed and --lone), or choose"
            " another --out"
        )
    sizes = json.loads(json.dumps(now[1]))  # as a file gives it back: tuples are lists
    if difference := _difference(known[1], sizes):
        raise MinidalleError(
            f"{path} is trained at other sizes ({difference}): give it the same --preset again, or"
            " choose another --out"
        )


def _difference(old: Any, new: Any, name: str = "") -> str | None:
    """The first field in which two nested dicts differ, in words; None where they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys()):  # a new baseline in the preset changes nothing here
            inner = _difference(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
            if inner:
                return inner
        return None
    return None if old == new else f"{name} was {old} and is {new}"


def weights_digest(model: nn.Module) -> str:
    """A short hash of all weights."""
    data = b"".join(v.cpu().numpy().tobytes() for v in model.state_dict().values())
    return str(fingerprint(data)["sha256"])[:16]
