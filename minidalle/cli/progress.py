"""Training at a terminal: a progress bar, and signals that end it.

Ctrl-C and SIGTERM do not break into a step: they set a flag, the current step is finished and
saved, and the process ends with 128 + the signal's number, as a shell expects (130 and 143).
"""

import signal
import sys
import warnings
from contextlib import closing
from types import FrameType

from tqdm import tqdm

from minidalle.cli.errors import exit_status
from minidalle.errors import MinidalleError
from minidalle.training import distributed
from minidalle.training.background import BackgroundProcess
from minidalle.training.run import TrainingRun


class GracefulInterrupt:
    """Within its `with`, SIGINT and SIGTERM are kept in `signal`, 0 until one comes."""

    def __enter__(self) -> "GracefulInterrupt":
        self.signal = 0
        self.before = {s: signal.signal(s, self._keep) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def train_with_progress(
    run: TrainingRun, stage: str, resume: bool, interrupt: GracefulInterrupt, position: int = 0
) -> int:
    """Train a stage, with a bar on line `position`; 0, or the exit status where a signal came."""
    is_main = distributed.is_main_process()
    with (
        warnings.catch_warnings(),
        closing(run.train(stage, resume)) as records,
        tqdm(
            desc=f"{stage:5}", unit="step", total=run.steps(stage), disable=not is_main,
            position=position,
        ) as bar,
    ):  # fmt: skip
        warnings.filterwarnings("ignore", "caption cut")  # one note covers all of them
        for record in records:
            bar.update(record.step - bar.n)
            losses = " ".join(f"{name} {value:.3f}" for name, value in record.losses.items())
            bar.set_postfix_str(f"{losses}, {record.images_per_second:.0f} pictures/s")
            if distributed.all_reduce_max(interrupt.signal):
                break
    number = distributed.all_reduce_max(interrupt.signal)
    if number and is_main:
        print(f"stopped and saved in {run.out / stage}; continue with --resume", file=sys.stderr)
    return 128 + number if number else 0


def train_in_background(run: TrainingRun, stage: str, resume: bool) -> int:
    """The same, as the work of a `BackgroundProcess`, with its bar under the parent's."""

    def work() -> int:
        with GracefulInterrupt() as interrupt:
            return train_with_progress(run, stage, resume, interrupt, position=1)

    return exit_status(work)


def wait_for(process: BackgroundProcess, interrupt: GracefulInterrupt) -> int:
    """The exit status of a background process, to which a signal that comes is passed on.

    Raises MinidalleError where it was killed.
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
    return status
