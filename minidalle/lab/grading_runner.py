"""The process in which `grading` runs one notebook: it starts a kernel and runs cell after cell.

`grading` starts this file as a script, because `minidalle.lab` takes seconds to import. The script
writes a line of JSON for each step, so that what is known survives whatever a cell does, and then
waits to be ended. It trusts no notebook: what cells print never reaches those lines.
"""

import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import IO, Any, NoReturn

if __name__ == "__main__":  # unused, and jsonschema would take a second to import it
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

FILE_BYTES = 200_000_000
OUTPUT_BYTES = 8_000_000
OUTPUT_SECONDS = 10  # for the output of a cell to arrive after the cell has ended


class Unreadable(Exception):
    """The reason why a file cannot be run."""


def read_cells(path: Path) -> list[str]:
    """The code cells up to "Plug it in", without empty ones, so that Jupyter numbers them alike."""
    try:
        if path.exists() and not path.is_file():
            raise Unreadable("not a file")
        if path.stat().st_size > FILE_BYTES:
            raise Unreadable(f"larger than {FILE_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    if not data.strip():
        raise Unreadable("an empty file")
    try:
        document = json.loads(data)  # of bytes: with or without a byte order mark
    except (ValueError, RecursionError) as error:
        raise Unreadable("not JSON") from error
    try:
        cells = nbformat.reads(json.dumps(document), as_version=4).cells
        ends = [i for i, cell in enumerate(cells) if cell.source.startswith("## Plug it in")]
        cells = cells[: ends[0] if ends else None]
        return [cell.source for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    except Exception as error:  # nbformat raises nearly anything for JSON that is no notebook
        raise Unreadable("not a notebook") from error


class Runner(NotebookClient):
    """Runs the cells of a notebook and writes a line about each step to `channel`."""

    channel: IO[str]
    starting: Lock
    cell, printed = 0, 0

    def report(self, **facts: Any) -> None:
        """One line for the grader."""
        with suppress(BrokenPipeError):  # the grader is gone: the other thread ends this process
            print(json.dumps(facts), file=self.channel, flush=True)

    def end(self, reason: str = "") -> NoReturn:
        """Report the end. The grader then ends this process with all that the notebook started."""
        self.report(end=reason[:300])
        while True:
            Event().wait()

    def process_message(self, msg: dict[str, Any], *arguments: Any) -> Any:
        """Overrides NotebookClient: all that a cell shows comes by here."""
        self.printed += len(str(msg["content"])) + sum(map(len, msg.get("buffers", ())))
        if self.printed > OUTPUT_BYTES:
            self.end(f"too much output in cell {self.cell}: over {OUTPUT_BYTES // 1_000_000} MB")
        return super().process_message(msg, *arguments)

    def start(self, folder: Path) -> None:
        """Start a kernel in a folder; the grader must know it, to end it."""
        try:
            with self.starting:
                self.km = self.create_kernel_manager()
                self.start_new_kernel(cwd=str(folder))
            self.report(kernel=getattr(self.km.provisioner, "pid", None))
            self.start_new_kernel_client()
        except Exception as error:
            self.end(f"no kernel: {type(error).__name__}: {error}")

    def run(self, mime: str, tasks: list[str]) -> None:
        """Run the cells. A verdict on a task counts only from a cell that calls its check."""
        verdicts: dict[str, Any] = {}
        interrupted: list[int] = []
        for i, cell in enumerate(self.nb.cells):
            self.cell = i + 1
            self.report(cell=self.cell, verdicts=verdicts, interrupted=interrupted)
            began = monotonic()
            try:
                self.execute_cell(cell, i)
            except DeadKernelError:
                self.end(f"the kernel died in cell {self.cell} (os._exit or a crash)")
            except Exception as error:
                self.end(f"cell {self.cell} could not be run: {type(error).__name__}: {error}")
            if monotonic() - began >= (self.timeout or 0):
                interrupted.append(self.cell)
            for output in cell.outputs:
                verdict = output.get("data", {}).get(mime)
                task = verdict.get("task") if isinstance(verdict, dict) else None
                if task in tasks and f"check.{task}(" in cell.source:
                    verdicts[task] = str(verdict.get("status"))[:30]
        self.report(verdicts=verdicts, interrupted=interrupted)


def _end_with_the_grader(runner: Runner, folder: str) -> None:
    """Once the grader is gone, even by SIGKILL, end the kernel and this process."""
    sys.stdin.buffer.read()  # until the grader's end of the pipe is closed
    with runner.starting:  # from here on no kernel starts, and none is on its way
        if kernel := getattr(runner.km and runner.km.provisioner, "pid", None):
            with suppress(ProcessLookupError):
                os.killpg(kernel, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)


def _main(path: Path, seconds: int, folder: str, mime: str, *known: str) -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the kernel must not write into the reports
    runner = Runner(
        nbformat.v4.new_notebook(), timeout=seconds, interrupt_on_timeout=True, allow_errors=True,
        kernel_name="python3", startup_timeout=10**6,  # the grader's limit is the one that counts
        iopub_timeout=OUTPUT_SECONDS,
    )  # fmt: skip
    runner.channel, runner.starting = channel, Lock()
    Thread(target=_end_with_the_grader, args=(runner, folder), daemon=True).start()
    try:
        sources = read_cells(path)
    except Unreadable as error:
        runner.end(str(error))
    runner.nb.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    text = "\n".join(sources)
    tasks = [name for name in known if f"check.{name}(" in text or f"def {name}(" in text]
    runner.report(tasks=tasks)
    runner.start(path.parent)
    runner.run(mime, tasks)
    runner.end()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
