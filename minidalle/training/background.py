"""Two stages at once: CLIP trains in a background process while the prior trains in this one.

Both need the tokenizer and the dVAE, and neither needs the other. On two cores that is the better
use of them: the matrices of so small a model hardly gain from a second thread, so two processes of
one thread each make more updates together than one of two threads makes in turn.

    with BackgroundProcess(train_clip, arguments) as process:
        ...                       # train the prior, with half of the threads
        status = process.wait()
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

import torch
from tqdm import tqdm


class BackgroundProcess:
    """A process that runs `work(*arguments)`, which returns its exit status.

    The arguments must be small (file names and settings): they are sent through a pipe, and sending
    more than a pipe holds to a process that has just died would never end.

    It has half of the threads, and so has this process until the `with` ends. Leaving the `with`
    early sends it SIGTERM and waits for it. It also gets SIGTERM when this process dies, even by
    SIGKILL.
    """

    def __init__(self, work: Callable[..., int], *arguments: Any) -> None:
        self.threads = torch.get_num_threads()
        self.half = max(1, self.threads // 2)
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's locks
        self.lock = context.RLock()  # for the two progress bars, one under the other
        self.process = context.Process(target=_run, args=(self.half, self.lock, work, *arguments))

    def __enter__(self) -> "BackgroundProcess":
        torch.set_num_threads(self.half)
        tqdm.set_lock(self.lock)
        # The child ignores SIGINT until its own handler is installed: Ctrl-C during its start would
        # be a traceback. This process still hears it, and ends the child.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.process.start()
        signal.signal(signal.SIGINT, before)
        return self

    def is_alive(self) -> bool:
        """Whether it is still at work."""
        return self.process.is_alive()

    def has_failed(self) -> bool:
        """Whether it has ended with another status than 0."""
        return not self.is_alive() and self.process.exitcode not in (0, None)

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end, at most so long."""
        self.process.join(seconds)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self.process.join()
        status = self.process.exitcode
        assert status is not None
        return status

    def terminate(self) -> None:
        """Ask it to end; it finishes the current step and saves."""
        self.process.terminate()

    def __exit__(self, *_: object) -> None:
        self.terminate()
        self.process.join()
        torch.set_num_threads(self.threads)


def _run(threads: int, lock: Any, work: Callable[..., int], *arguments: Any) -> None:
    torch.set_num_threads(threads)
    tqdm.set_lock(lock)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    raise SystemExit(work(*arguments))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
