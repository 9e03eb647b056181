"""Training at a terminal: a progress bar, and signals that end it.

Signals do not break into a step: they set a flag, and the current step is finished and saved. Then
the process ends with 128 + the signal's number, as a shell expects: Ctrl-C 130, SIGTERM 143, a
closed terminal (SIGHUP) 129. SIGUSR1 saves and continues.
"""

import contextlib
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing
from types import FrameType
from typing import Any

from tqdm import tqdm

from minidalle.cli.streams import silence_streams
from minidalle.errors import MinidalleError
from minidalle.training import distributed
from minidalle.training.background import BackgroundProcess
from minidalle.training.run import SAVE_EVERY, TrainingRun
from minidalle.training.tensorboard import TensorBoard

ENDING = [s for s in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, s)]  # Windows has no SIGHUP
SECONDS_PER_LINE = 30.0  # between two lines of progress in a log file


class GracefulInterrupt:
    """Within its `with`, signals that end a process are kept in `signal`, 0 until one comes.

    `save` becomes True when SIGUSR1 asks for a checkpoint.
    """

    def __enter__(self) -> "GracefulInterrupt":
        self.signal, self.save = 0, False
        numbers = [getattr(signal, name) for name in ENDING]
        self.before = {number: signal.signal(number, self._keep) for number in numbers}
        if hasattr(signal, "SIGUSR1"):
            self.before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._ask_to_save)
        return self

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        if number == getattr(signal, "SIGHUP", None):  # the terminal has gone: printing would fail
            silence_streams()

    def _ask_to_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


class PlainProgress:
    """Stands in for tqdm where stderr is no terminal: a plain line now and then."""

    def __init__(self, items: Iterable = (), *, total: int, desc: str, unit: str) -> None:
        self.items, self.total, self.desc, self.unit = items, total, desc.strip(), unit
        self.n, self.postfix, self.printed = 0, "", time.monotonic()

    def __iter__(self) -> Iterator:
        for item in self.items:
            self.update()
            yield item

    def update(self, n: int = 1) -> None:
        """Count, and print a line if the last one is old."""
        self.n += n
        if time.monotonic() - self.printed > SECONDS_PER_LINE or self.n == self.total:
            self.printed = time.monotonic()
            line = f"{self.desc}: {self.unit} {self.n} of {self.total} {self.postfix}".rstrip()
            print(line, file=sys.stderr, flush=True)

    def set_postfix_str(self, text: str) -> None:
        """What to add to a line."""
        self.postfix = text

    def __enter__(self) -> "PlainProgress":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def progress_bar(
    items: Iterable = (), *, total: int, desc: str, unit: str, position: int = 0, show: bool = True
) -> Any:
    """A tqdm bar at a terminal, plain lines in a log file, nothing where `show` is False."""
    if not show or sys.stderr.isatty():
        return tqdm(
            items or None, total=total, desc=desc, unit=unit, position=position, disable=not show
        )
    return PlainProgress(items, total=total, desc=desc, unit=unit)


def train_with_progress(
    run: TrainingRun,
    stage: str,
    resume: bool,
    interrupt: GracefulInterrupt,
    position: int = 0,
    background: BackgroundProcess | None = None,
    board: TensorBoard | None = None,
) -> int:
    """Train a stage, with a bar on line `position`; 0, or the exit status where a signal came.

    background: a process whose early end is reported at once, and not only in the end.
    board: where the curves go as well.
    """
    is_main = distributed.is_main_process()
    bar = progress_bar(
        total=run.steps(stage), desc=f"{stage:5}", unit="step", position=position, show=is_main
    )
    has_failed, step = False, 0  # the last one
    with warnings.catch_warnings(), closing(run.train(stage, resume)) as records, bar:
        warnings.filterwarnings("ignore", "caption cut")  # one note covers all of them
        for record in records:
            losses = " ".join(f"{name} {value:.3f}" for name, value in record.losses.items())
            bar.set_postfix_str(f"{losses}, {record.images_per_second:.0f} pictures/s")
            bar.update(record.step - bar.n)
            if board:
                board.add(record)
                if record.step % SAVE_EVERY == 0:
                    board.look(record.step)
            if interrupt.save:
                run.save_now, interrupt.save = True, False
            if background and not has_failed and background.has_failed():
                has_failed = True
                print(f"note: the background process has ended early; {stage} continues",
                      file=sys.stderr)  # fmt: skip
            if distributed.all_reduce_max(interrupt.signal):
                break
            step = record.step
    if board and step:
        board.look(step)
        board.close()
    number = distributed.all_reduce_max(interrupt.signal)
    if number and is_main:
        with contextlib.suppress(OSError):
            print(f"stopped and saved in {run.out / stage}; continue with --resume",
                  file=sys.stderr)  # fmt: skip
    return 128 + number if number else 0


def wait_for(process: BackgroundProcess, interrupt: GracefulInterrupt) -> int:
    """The exit status of a background process, to which a signal that comes is passed on.

    Raises MinidalleError where it was killed, or ended without a word.
    """
    while process.is_alive():
        process.join(0.2)
        if interrupt.signal:
            process.terminate()
    status = process.wait()
    if interrupt.signal:  # the process was ended by us, whatever the signal was
        return 128 + interrupt.signal
    if status < 0:
        raise MinidalleError(
            f"the background process was killed (signal {-status}); continue with --resume"
        )
    if status not in (0, 2) and status < 128:  # 2: it has said why
        raise MinidalleError(
            f"the background process ended with status {status}; continue with --resume"
        )
    return status
