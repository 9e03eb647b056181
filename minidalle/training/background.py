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

LOCK_TIMEOUT = 5.0  # seconds


class ScreenLock:
    """The lock with which two processes draw their progress bars, one under the other.

    A process that is killed or stopped while it holds the lock never releases it. The other waits
    once until the timeout, and from then on draws without the lock: bars that overlap are better
    than a training that hangs.
    """

    def __init__(self, lock: Any) -> None:
        self.lock, self.is_lost = lock, False

    def acquire(self, *_: Any) -> bool:
        """Acquire the lock; after a timeout, always succeed without it."""
        self.is_lost = self.is_lost or not self.lock.acquire(timeout=LOCK_TIMEOUT)
        return True

    def release(self) -> None:
        """Release the lock, unless it was given up."""
        if not self.is_lost:
            self.lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class BackgroundProcess:
    """A process that runs `work(*arguments)`, which returns its exit status.

    The arguments must be small (file names and settings): they are sent through a pipe, and sending
    more than a pipe holds to a process that has just died would never end.

    It has half of the threads, and so has this process until the `with` ends. Leaving the `with`
    early sends it SIGTERM and waits for it. It also gets SIGTERM when this process dies, even by
    SIGKILL. Entering the `with` raises OSError where no process can be started.
    """

    def __init__(self, work: Callable[..., int], *arguments: Any) -> None:
        self.threads = torch.get_num_threads()
        self.half = max(1, self.threads // 2)
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's locks
        self.lock = ScreenLock(context.RLock())
        self.process = context.Process(target=_run, args=(self.half, self.lock, work, *arguments))

    def __enter__(self) -> "BackgroundProcess":
        # The child ignores SIGINT until its own handler is installed: Ctrl-C during its start would
        # be a traceback. This process still hears it, and ends the child.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        torch.set_num_threads(self.half)
        tqdm.set_lock(self.lock)
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
        """Ask it to end; it finishes the current step and saves. A stopped process is continued,
        since it would receive no signal until then."""
        self.process.terminate()
        if self.process.pid and self.is_alive() and hasattr(signal, "SIGCONT"):  # not on Windows
            os.kill(self.process.pid, signal.SIGCONT)

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
