"""Grade notebooks: which exercises each of them passes.

Each notebook runs on its own, cell by cell up to "Plug it in". This file holds both sides of that.
The grader imports it. For every notebook it starts this file again as a script: the runner, which
starts a kernel, runs the cells and writes one line of JSON per step. A notebook may kill its kernel
or its runner, or never end. The grader waits for the next line until a deadline, ends all processes
of the notebook and states the reason. The verdicts of the checks are read from the outputs of the
cells; nothing is written back.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import monotonic
from typing import IO, Any, NoReturn

import nbformat
import psutil  # type: ignore[import-untyped]
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

# Only functions import minidalle: the runner does not need it, and would start seconds later.

NO_VERDICT = "no verdict"  # the check was deleted, or its cell failed or did not end
REASON = "reason"  # beside the tasks of a report: why some have no verdict
NOT_GRADED = "not graded"  # the reason after Ctrl-C

START_SECONDS = 120  # for a kernel to start
GRACE_SECONDS = 5  # for a cell to end after it was interrupted
NOTEBOOK_SECONDS = 600  # for a whole notebook, or 20 times the limit of a cell if that is more
OUTPUT_BYTES = 8_000_000
FILE_BYTES = 200_000_000
AT_A_TIME = 8  # notebooks, where there are as many cores: each takes half a gigabyte
MARK = "TMPDIR"  # has another value for each notebook, which marks its processes


def notebooks_in(paths: Iterable[Path]) -> list[Path]:
    """The notebooks among paths and below them. Raises MinidalleError where there is none."""
    from minidalle.errors import MinidalleError

    paths, found = list(paths), []
    for path in paths:
        if path.suffix == ".ipynb":
            if not path.exists():
                raise MinidalleError(f"{path} does not exist: give a notebook, or a folder")
            found.append(path)
        below = sorted(path.rglob("*.ipynb")) if path.is_dir() else []
        found += [p for p in below if ".ipynb_checkpoints" not in p.parts]
    if not found:
        raise MinidalleError(f"no notebook in {', '.join(map(str, paths))}: give one, or a folder")
    return list(dict.fromkeys(found))


def grade_all(
    paths: Iterable[Path], seconds: int = 30, bar: Callable[[Iterable], Iterable] = iter
) -> dict[str, dict[str, str]]:
    """`grade_notebook` of every notebook, by its path, in the order of the paths.

    Ctrl-C ends the work; the reason of notebooks that are not done is then NOT_GRADED.
    """
    found, stop = notebooks_in(paths), Event()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, AT_A_TIME)) as pool:
        futures = {str(path): pool.submit(grade_notebook, path, seconds, stop) for path in found}
        try:
            for future in bar(list(futures.values())):
                future.result()
        except KeyboardInterrupt:
            pass  # what has been graded is still reported
        finally:
            stop.set()
    return {name: future.result() for name, future in futures.items()}


def grade_notebook(path: Path, seconds: int = 30, stop: Event | None = None) -> dict[str, str]:
    """The status of every task that a notebook answers or checks, in their order.

    Where a cell was interrupted or the notebook did not run to its end, REASON says why.
    """
    from minidalle.lab.checks.engine import NOT_STARTED, PASSED, WRONG

    stop = stop or Event()
    try:
        state = {} if stop.is_set() else _run_in_processes(path, seconds, stop)
    except Exception as error:  # a fault of ours in one notebook must not cost the whole table
        return {REASON: f"could not be graded: {type(error).__name__}: {error}"}
    if stop.is_set():
        return {REASON: NOT_GRADED}
    verdicts = {t: s for t, s in state["verdicts"].items() if s in (PASSED, NOT_STARTED, WRONG)}
    report = {task: verdicts.get(task, NO_VERDICT) for task in state["tasks"]}
    reasons = [state["end"]] if state["end"] else []
    if cells := state["interrupted"]:
        numbers = ", ".join(map(str, cells[:5])) + (", …" if len(cells) > 5 else "")
        reasons.insert(0, f"interrupted after {seconds} s: cell {numbers}")
    return report | ({REASON: "; ".join(reasons)} if reasons else {})


# --- The grader's side: follow a runner, and end it -----------------------------------------------


def _run_in_processes(path: Path, seconds: int, stop: Event) -> dict[str, Any]:
    from minidalle.lab.checks import TASKS
    from minidalle.lab.checks.engine import MIME

    with TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True) as folder:
        # -P: what a student calls json.py must not be imported in place of the library.
        command = [sys.executable, "-P", __file__, str(path.absolute()), str(seconds), MIME, *TASKS]
        runner = subprocess.Popen(
            command, env={"OMP_NUM_THREADS": "1", **os.environ, MARK: folder},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        assert runner.stdin and runner.stdout
        lines: Queue[bytes | None] = Queue()
        Thread(target=_queue_lines, args=(runner.stdout, lines), daemon=True).start()
        try:
            return _follow(lines, seconds, stop)
        finally:
            end_processes(runner.pid, folder)
            runner.stdin.close()
            runner.poll()


def _queue_lines(stream: IO[bytes], lines: Queue[bytes | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _follow(lines: Queue[bytes | None], seconds: int, stop: Event) -> dict[str, Any]:
    """What a runner has reported once it is at its end, has died or has passed a deadline."""
    state: dict[str, Any] = {"tasks": [], "verdicts": {}, "interrupted": [], "cell": 0, "end": None}
    whole = max(NOTEBOOK_SECONDS, 20 * seconds)
    last, limit = monotonic() + whole, monotonic() + START_SECONDS
    while state["end"] is None:
        if stop.is_set():
            state["end"] = NOT_GRADED
        elif monotonic() > last:
            state["end"] = f"not at its end after {whole} s"
        elif monotonic() > limit:
            late = f"cell {state['cell']} did not stop after {seconds} s"
            state["end"] = late if state["cell"] else f"no kernel after {START_SECONDS} s"
        with suppress(Empty):
            line = lines.get(timeout=0.2)
            if line is None:
                state["end"] = f"the process that runs the cells was killed in cell {state['cell']}"
                break
            state |= json.loads(line)
            if state["cell"]:
                limit = monotonic() + seconds + GRACE_SECONDS
    return state


def end_processes(runner: int, folder: str) -> None:
    """End a runner, its kernel and all that a notebook has started: SIGTERM, then SIGKILL."""
    for attempt in range(10):  # a process may start another one while it is being ended
        processes = _processes(runner, folder)
        for process in processes:
            with suppress(psutil.Error):
                process.kill() if attempt else process.terminate()
        if not processes:
            break
        psutil.wait_procs(processes, timeout=1)


def _processes(runner: int, folder: str) -> set[psutil.Process]:
    """All below the runner, and all that have its mark in their environment."""
    found = {
        process for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get(MARK) == folder
    }  # fmt: skip
    with suppress(psutil.Error):
        process = psutil.Process(runner)
        found |= {process, *process.children(recursive=True)}
    return {process for process in found if process.pid != os.getpid()}


# --- The runner's side: one notebook, one kernel --------------------------------------------------


class _Unreadable(Exception):
    """The reason why a file cannot be run."""


def _read_cells(path: Path) -> list[str]:
    """The code cells up to "Plug it in", without empty ones, so that Jupyter numbers them alike."""
    try:
        if path.exists() and not path.is_file():
            raise _Unreadable("not a file")
        if path.stat().st_size > FILE_BYTES:
            raise _Unreadable(f"larger than {FILE_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise _Unreadable(f"cannot be read: {error.strerror}") from error
    if not data.strip():
        raise _Unreadable("an empty file")
    try:
        document = json.loads(data)  # of bytes: with or without a byte order mark
    except (ValueError, RecursionError) as error:
        raise _Unreadable("not JSON") from error
    try:
        cells = nbformat.reads(json.dumps(document), as_version=4).cells
        ends = [i for i, cell in enumerate(cells) if cell.source.startswith("## Plug it in")]
        cells = cells[: ends[0] if ends else None]
        return [cell.source for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    except Exception as error:  # nbformat raises nearly anything for JSON that is no notebook
        raise _Unreadable("not a notebook") from error


class _Runner(NotebookClient):
    """Runs the cells of a notebook and reports each step on `channel`."""

    channel: IO[str]
    cell, printed = 0, 0

    def report(self, **facts: Any) -> None:
        with suppress(BrokenPipeError):  # once the grader has gone, the other thread ends us
            print(json.dumps(facts), file=self.channel, flush=True)

    def end(self, reason: str = "") -> NoReturn:
        """Report the end and wait to be ended: the grader needs this process to find the others."""
        self.report(end=reason)
        while True:
            Event().wait()

    def process_message(self, msg: dict[str, Any], *arguments: Any) -> Any:
        """Overrides NotebookClient: all that a cell shows comes by here."""
        self.printed += len(str(msg["content"])) + sum(map(len, msg.get("buffers", ())))
        if self.printed > OUTPUT_BYTES:
            self.end(f"too much output in cell {self.cell}: over {OUTPUT_BYTES // 1_000_000} MB")
        return super().process_message(msg, *arguments)

    def run(self, folder: Path, mime: str, tasks: list[str]) -> NoReturn:
        """Run the cells in a folder; report the verdicts on tasks that were known by each cell."""
        verdicts: dict[str, Any] = {}
        interrupted: list[int] = []
        try:
            with self.setup_kernel(cwd=str(folder)):
                for i, cell in enumerate(self.nb.cells):
                    self.cell = i + 1
                    self.report(cell=self.cell, verdicts=verdicts, interrupted=interrupted)
                    began = monotonic()
                    self.execute_cell(cell, i)
                    if monotonic() - began >= (self.timeout or 0):
                        interrupted.append(self.cell)
                    for output in cell.outputs:
                        verdict = output.get("data", {}).get(mime)
                        if isinstance(verdict, dict) and verdict.get("task") in tasks:
                            verdicts[verdict["task"]] = verdict.get("status")
                self.report(verdicts=verdicts, interrupted=interrupted)
                self.end()
        except DeadKernelError:
            self.end(f"the kernel died in cell {self.cell} (os._exit or a crash)")
        except Exception as error:
            what = f"cell {self.cell} could not be run" if self.cell else "no kernel"
            self.end(f"{what}: {type(error).__name__}: {error}")


def _end_with_the_grader() -> None:
    """Once the grader has gone, even by SIGKILL, end everything that it would have ended."""
    sys.stdin.buffer.read()  # until the grader's end of the pipe is closed
    end_processes(os.getpid(), os.environ[MARK])
    shutil.rmtree(os.environ[MARK], ignore_errors=True)
    os._exit(1)


def _main(path: Path, seconds: int, mime: str, *known: str) -> NoReturn:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the kernel must not write into the reports
    Thread(target=_end_with_the_grader, daemon=True).start()
    if sys.platform == "linux":  # this process becomes the parent of the kernel's orphans
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    runner = _Runner(
        nbformat.v4.new_notebook(), timeout=seconds, interrupt_on_timeout=True, allow_errors=True,
        kernel_name="python3", startup_timeout=START_SECONDS,
    )  # fmt: skip
    runner.channel = channel
    try:
        sources = _read_cells(path)
    except _Unreadable as error:
        runner.end(str(error))
    runner.nb.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    text = "\n".join(sources)
    tasks = [name for name in known if f"check.{name}(" in text or f"def {name}(" in text]
    runner.report(tasks=tasks)
    runner.run(path.parent, mime, tasks)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
