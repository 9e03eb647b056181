"""Grade notebooks: which exercises each of them passes.

Each notebook runs on its own, cell by cell up to "Plug it in": `grading_runner` runs it in a
process of its own, and reports each step. A notebook may kill its kernel or its runner, or never
end. The grader waits for the next report until a deadline, kills all processes of the notebook and
states the reason. The verdicts of the checks are read from the outputs of their cells; nothing is
written back.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from minidalle.errors import MinidalleError
from minidalle.lab.checks import TASKS
from minidalle.lab.checks.engine import GRADED, MIME, NOT_STARTED, PASSED, WRONG

NO_VERDICT = "no verdict"  # the check was deleted, or its cell failed or did not end
REASON = "reason"  # beside the tasks of a report: why some have no verdict
NOT_GRADED = "not graded"  # the reason after Ctrl-C

START_SECONDS = 120  # for a kernel to start
GRACE_SECONDS = 15  # for a cell to end after it was interrupted
NOTEBOOK_SECONDS = 600  # for a whole notebook, or 20 times the limit of a cell if that is more
AT_A_TIME = min(os.cpu_count() or 1, 8)  # notebooks: each takes half a gigabyte
MARK = "TMPDIR"  # has another value for each notebook, which marks its processes
RUNNER = Path(__file__).with_name("grading_runner.py")


def notebooks_in(paths: Iterable[Path]) -> list[Path]:
    """The notebooks among paths and below them. Raises MinidalleError where there is none."""
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
    """The status of every task that a notebook answers or checks, by the path of the notebook.

    Where a cell was interrupted or a notebook did not run to its end, REASON says why. Ctrl-C ends
    the work; the reason of notebooks that are not done is then NOT_GRADED.
    """
    return asyncio.run(_grade_all(notebooks_in(paths), seconds, bar))


async def _grade_all(
    found: list[Path], seconds: int, bar: Callable[[Iterable], Iterable]
) -> dict[str, dict[str, str]]:
    room = asyncio.Semaphore(AT_A_TIME)

    async def grade(path: Path) -> dict[str, str]:
        try:
            async with room:
                return _report(await _run_in_processes(path, seconds), seconds)
        except asyncio.CancelledError:
            return {REASON: NOT_GRADED}
        except Exception as error:  # a fault of ours in one notebook must not cost the whole table
            return {REASON: f"could not be graded: {type(error).__name__}: {error}"}

    tasks = [asyncio.create_task(grade(path)) for path in found]
    try:
        for task in bar(tasks):
            await asyncio.shield(task)  # or Ctrl-C would end this one only
    except asyncio.CancelledError:  # Ctrl-C: what has been graded is still reported
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not cost them
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        signal.signal(signal.SIGINT, before)
    reports = await asyncio.gather(*tasks, return_exceptions=True)
    return {
        str(path): {REASON: NOT_GRADED} if isinstance(report, BaseException) else report
        for path, report in zip(found, reports, strict=True)
    }


def _report(state: dict[str, Any], seconds: int) -> dict[str, str]:
    verdicts = {t: s for t, s in state["verdicts"].items() if s in (PASSED, NOT_STARTED, WRONG)}
    report = {task: verdicts.get(task, NO_VERDICT) for task in state["tasks"]}
    reasons = [state["end"]] if state["end"] else []
    if cells := state["interrupted"]:
        numbers = ", ".join(map(str, cells[:5])) + (", …" if len(cells) > 5 else "")
        reasons.insert(0, f"interrupted after {seconds} s: cell {numbers}")
    return report | ({REASON: "; ".join(reasons)} if reasons else {})


def new_state() -> dict[str, Any]:
    """What is known of a notebook before its runner reports anything."""
    return {"tasks": [], "verdicts": {}, "interrupted": [], "cell": 0, "kernel": None, "end": None}


async def _run_in_processes(path: Path, seconds: int) -> dict[str, Any]:
    """What the runner of a notebook has reported in the end. Nothing that it started is left."""
    with TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True) as folder:
        state = new_state()
        runner = await asyncio.create_subprocess_exec(
            # -P: what a student calls json.py must not be imported in place of the library.
            sys.executable, "-P", RUNNER, path.absolute(), str(seconds), folder, MIME, *TASKS,
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True, limit=2**20,
            env={"OMP_NUM_THREADS": "1", **os.environ, MARK: folder, GRADED: "1",
                 "JUPYTER_RUNTIME_DIR": folder},
        )  # fmt: skip
        assert runner.stdout
        try:
            await _follow(runner.stdout, state, seconds)
        finally:
            await _kill([runner.pid, state["kernel"]], folder)
            await runner.wait()
    return state


async def _follow(lines: asyncio.StreamReader, state: dict[str, Any], seconds: int) -> None:
    """Keep what a runner reports, until it is at its end, has died or has passed a deadline."""
    clock = asyncio.get_running_loop().time
    whole = max(NOTEBOOK_SECONDS, 20 * seconds)
    last, limit = clock() + whole, clock() + START_SECONDS
    while state["end"] is None:
        try:
            async with asyncio.timeout_at(min(last, limit)):
                line = await lines.readline()
        except TimeoutError:
            if last <= limit:
                state["end"] = f"not at its end after {whole} s"
            elif state["cell"]:
                state["end"] = f"cell {state['cell']} did not stop after {seconds} s"
            else:
                state["end"] = f"no kernel after {START_SECONDS} s"
        else:
            if line.endswith(b"\n"):
                state |= json.loads(line)
            else:  # the runner has ended, maybe within a line
                when = f"in cell {state['cell']}" if state["cell"] else "before the first cell"
                state["end"] = f"the process that runs the cells was killed {when}"
            if state["cell"]:
                limit = clock() + seconds + GRACE_SECONDS


async def _kill(groups: list[int | None], folder: str) -> None:
    """Kill process groups, and whatever a notebook has started in a group of its own."""
    for group in filter(None, groups):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    idle = 0
    for _ in range(100):  # a process may start another one while it is being killed,
        processes = marked_processes(folder)
        idle = 0 if processes else idle + 1
        if idle == 3:  # and one that is just starting has no environment yet
            break
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        await asyncio.sleep(0.05)


def marked_processes(folder: str) -> list[int]:
    """Processes whose environment bears the mark of a notebook. Only Linux shows environments."""
    mark, found = f"{MARK}={folder}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found
