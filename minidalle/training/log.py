"""The log of a stage, OUT/STAGE.jsonl: one line per twenty steps and look at the validation
loss, for the curves."""

import json
import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from minidalle.files import write_file
from minidalle.training.trainer import Record

LOG_EVERY = 20  # steps between two lines


def start_log(log: Path, step: int) -> None:
    """Keep the lines of a log up to `step`, so that a resumed run writes none twice; damaged lines
    are dropped."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    kept = [line for line in lines if _step(line) <= step]
    write_file(log, "".join(f"{line}\n" for line in kept).encode())


def append_record(log: Path, record: Record) -> None:
    """One line for the curves. A full disk must not end a training: the line is lost, with a
    warning."""
    try:
        fields = {name: value for name, value in record._asdict().items() if value is not None}
        with log.open("a") as lines:
            lines.write(json.dumps(fields) + "\n")
    except OSError as error:
        warnings.warn(f"cannot write {log}: {error.strerror}; its line is lost", stacklevel=2)


def mean_speed(records: Iterable[Record]) -> Iterator[Record]:
    """The same records, each with the mean speed of the steps since the last multiple of twenty.

    Some steps take longer than others, such as a GAN's every sixteenth: one step in twenty would
    not speak for all of them.
    """
    seconds, n = 0.0, 0  # per picture, summed over steps
    for record in records:
        seconds, n = seconds + 1 / record.images_per_second, n + 1
        yield record._replace(images_per_second=n / seconds)
        if record.step % LOG_EVERY == 0:
            seconds, n = 0.0, 0


def minutes(log: Path, batch_size: int) -> float:
    """How long a training took by its log, interruptions left out; 0 where it has no log.

    Each line stands for the twenty steps up to it; damaged lines are left out.
    """
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    records = [json.loads(line) for line in lines if math.isfinite(_step(line))]
    records = [record for record in records if record["step"] % LOG_EVERY == 0]
    return sum(LOG_EVERY * batch_size / r["images_per_second"] for r in records) / 60


def _step(line: str) -> float:
    """The step of a line; infinity for one that is damaged or was cut short."""
    try:
        step = json.loads(line)["step"]
        return step if isinstance(step, int) else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
