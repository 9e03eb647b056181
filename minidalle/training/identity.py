"""What a run directory is trained on, written down so that nothing else gets mixed in.

`run.json` holds the name of the source and the sizes of the preset. Without it, a dVAE of one
preset and a prior of another could end in one bundle, without a word.
"""

import json
from pathlib import Path
from typing import Any

from minidalle.errors import MinidalleError
from minidalle.files import to_json, write_file
from minidalle.training import distributed


def check_identity(out: Path, source: str, sizes: dict[str, Any]) -> None:
    """Write `out`/run.json, or compare with the one there.

    Raises MinidalleError where the directory is trained on another source or at other sizes.
    """
    file = out / "run.json"
    sizes = json.loads(json.dumps(sizes))  # as a file gives it back: tuples are lists
    if distributed.is_main_process() and not file.exists():
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MinidalleError(
                f"cannot make {out}: {error.strerror}; choose another --out"
            ) from error
        write_file(file, to_json({"source": source, "sizes": sizes}))
    distributed.barrier()
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        known_source, known_sizes = known["source"], known["sizes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MinidalleError(
            f"{file} is damaged: delete it, and the same command writes it again"
        ) from error
    if known_source != source:
        raise MinidalleError(
            f"{out} is trained on {known_source}, and this is {source}: give it the same --data,"
            " --caption-column and --crop again, or choose another --out"
        )
    if difference := _difference(known_sizes, sizes):
        raise MinidalleError(
            f"{out} is trained at other sizes ({difference}): give it the same --preset again, or"
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
