"""Stages trained at a terminal: a bar that shows how far they are, and signals that end them.

Ctrl-C and SIGTERM do not break into a step: they raise a flag, the step at hand is finished and
saved, and the process ends with 128 + the signal's number, as a shell expects (130 and 143).
"""

import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import closing

from tqdm import tqdm

from minidalle.errors import MinidalleError
from minidalle.training import distributed
from minidalle.training.background import Beside
from minidalle.training.checkpoint import FULL
from minidalle.training.stages import Stages
from minidalle.training.trainer import out_of_memory


class Stop:
    """Within its `with`, SIGINT and SIGTERM are kept in `signal`, 0 until one comes."""

    def __enter__(self) -> "Stop":
        self.signal = 0
        self.before = {s: signal.signal(s, self._keep) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _keep(self, number: int, frame) -> None:
        self.signal = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def note(message, *_) -> None:
    """One line beside the output; put in the place of `warnings.showwarning`."""
    print(f"note: {message}", file=sys.stderr)


def run(work: Callable[[], int | None]) -> int:
    """The exit status of `work`. What a user can mend is one line on stderr, and status 2."""
    warnings.showwarning = note
    try:
        return work() or 0
    except MinidalleError as error:
        told = str(error)
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # of which nobody spoke before
        if error.errno in FULL:
            told = f"{error.strerror}: make room, or choose another place to write to"
        elif error.filename is not None:
            told = f"{error.filename}: {error.strerror}; choose another place"
        else:
            raise
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        told = (
            "out of memory: ask for less at a time, with fewer --candidates or a smaller"
            " --batch-size"
        )
    print(f"minidalle: {told}", file=sys.stderr)
    return 2


def learn(stages: Stages, name: str, resume: bool, stop: Stop, position: int = 0) -> int:
    """Train a stage, with a bar on line `position`; 0, or the exit status where a signal came."""
    leads = distributed.rank() == 0
    with (
        warnings.catch_warnings(),
        closing(stages.train(name, resume)) as records,
        tqdm(
            desc=f"{name:5}", unit="step", total=stages.steps(name), disable=not leads,
            position=position,
        ) as bar,
    ):  # fmt: skip
        warnings.filterwarnings("ignore", "caption cut")  # told once, of all of them
        for record in records:
            bar.update(record.step - bar.n)
            losses = " ".join(f"{k} {v:.3f}" for k, v in record.losses.items())
            bar.set_postfix_str(f"{losses}, {record.images_per_second:.0f} pictures/s")
            if distributed.agree(stop.signal):
                break
    number = distributed.agree(stop.signal)
    if number and leads:
        where = stages.out / name
        print(f"stopped and saved in {where}; go on with --resume", file=sys.stderr)
    return 128 + number if number else 0


def learn_beside(stages: Stages, name: str, resume: bool) -> int:
    """The same in a process of its own (`Beside`), with its bar under the other's."""

    def work() -> int:
        with Stop() as stop:
            return learn(stages, name, resume, stop, position=1)

    return run(work)


def wait_for(other: Beside, stop: Stop) -> int:
    """The exit status of the process beside this one, which is told of a signal that comes.

    Raises MinidalleError where it was killed.
    """
    while other.process.is_alive():
        other.process.join(0.2)
        if stop.signal:
            other.end()
    status = other.wait()
    if stop.signal:  # the other was ended by us, whatever the signal was
        return 128 + stop.signal
    if status < 0:
        raise MinidalleError(
            f"the process beside this one was killed (signal {-status}); go on with --resume"
        )
    return status
