"""Two stages at once: CLIP learns in a process of its own while the prior learns in this one.

Both need the tokenizer and the dVAE, and neither needs the other. On two cores that is the better
use of them: the matrices of so small a model hardly gain from a second thread, so that two
processes of one thread each make more updates together than one of two threads makes in turn.

    with Beside(learn_beside, stages, "clip", resume) as other:
        ...                       # train the prior, with half of the threads
        status = other.wait()
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


class Beside:
    """A process beside this one that runs `work(*arguments)`, which returns its exit status.

    It has half of the threads, and so has this one until the `with` ends. Leave the `with` early
    and the other is asked to end (SIGTERM) and waited for; it is asked as well when this process
    dies, even by SIGKILL.
    """

    def __init__(self, work: Callable[..., int], *arguments: Any) -> None:
        self.threads = torch.get_num_threads()
        self.half = max(1, self.threads // 2)
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's locks
        self.lock = context.RLock()  # for the two progress bars, one under the other
        self.process = context.Process(target=_run, args=(self.half, self.lock, work, *arguments))

    def __enter__(self) -> "Beside":
        torch.set_num_threads(self.half)
        tqdm.set_lock(self.lock)
        # While it is being made the other would answer Ctrl-C with a traceback. So it begins deaf,
        # which is inherited, until `work` listens; this one hears, and tells the other.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.process.start()
        signal.signal(signal.SIGINT, before)
        return self

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self.process.join()
        return self.process.exitcode

    def end(self) -> None:
        """Ask it to end; it finishes the step at hand and saves."""
        self.process.terminate()

    def __exit__(self, *_: object) -> None:
        self.end()
        self.process.join()
        torch.set_num_threads(self.threads)


def _run(threads: int, lock, work: Callable[..., int], *arguments: Any) -> None:
    torch.set_num_threads(threads)
    tqdm.set_lock(lock)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    raise SystemExit(work(*arguments))


def _end_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
