"""Grading a class: whatever one notebook does, the others are graded and nothing stays behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest

from minidalle.cli.grade import table
from minidalle.cli.main import main
from minidalle.lab import grading, grading_runner
from minidalle.lab.checks import TASKS
from minidalle.lab.checks.engine import MIME
from minidalle.lab.exercises import FOLDER
from minidalle.lab.grading import NOT_GRADED, REASON, grade_all, notebooks_in


def verdict(task, status="passed"):
    """A cell that shows what a check shows, without the seconds that torch takes."""
    shown = {MIME: {"task": task, "status": status}}
    return f"# check.{task}(…)\nfrom IPython.display import display\ndisplay({shown}, raw=True)"


def save(path, *sources):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def grade(path, seconds=30):
    """The report on one notebook."""
    return grade_all([path], seconds)[str(path)]


def left_behind(folder):
    """Processes of graders whose temporary directories lie in a folder, and our `sleep`s."""
    mark, found = f"{grading.MARK}={folder}/grading-".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            marked = mark in (process / "environ").read_bytes()
            if marked or command.startswith(b"sleep\x0086397"):
                found.append((int(process.name), command))
    return found


def wait_until(holds, seconds=120):
    """Wait for what happens within a second on a quiet machine."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


# --- Cells that end, hang or flood their kernel ---------------------------------------------------

LIMIT = 8
DIED = r"the kernel died in cell 2 \(os\._exit or a crash\)"
STUCK = f"cell 2 did not stop after {LIMIT} s"
FLOOD = "too much output in cell 2: over 8 MB"
SLEEP = "import subprocess; subprocess.Popen(['sleep', '86397'], start_new_session=True"

CELLS = {  # between two verdicts: (cell, the reason or "" where the notebook runs to its end)
    "os._exit": ("import os; os._exit(0)", DIED),
    "kill -9": ("import os; os.kill(os.getpid(), 9)", DIED),
    "kill -9 of the group": ("import os; os.killpg(0, 9)", DIED),
    "kill -9 of the runner": ("import os; os.kill(os.getppid(), 9)",
                              "the process that runs the cells was killed in cell 2"),
    "a segfault": ("import ctypes; ctypes.string_at(0)", DIED),
    "a loop": ("while True: pass", f"interrupted after {LIMIT} s: cell 2"),
    "a loop that goes on": (
        "import time\nwhile True:\n    try:\n        time.sleep(1)\n"
        "    except KeyboardInterrupt:\n        pass", STUCK),
    "a kernel that is stopped": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", STUCK),
    "a thread": ("import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()",
                 ""),
    "a process": (SLEEP + ")", ""),
    "an orphan": (SLEEP + "); import os; os._exit(0)", DIED),
    "endless output": ("while True: print('x' * 1000)", FLOOD),
    "sys.exit": ("import sys; sys.exit()", ""),
    "input": ("input()", ""),
    "chdir": ("import os; os.chdir('/')", ""),
    "a fork": ("import os; os.fork()", ""),
    "a forged report": ("import os; os.write(1, b'{\"end\": \"\"}\\n')", ""),
    "a verdict of another kind": (
        f"from IPython.display import display\ndisplay({{{MIME!r}: ['passed']}}, raw=True)", ""),
    "a printed verdict": ("print('✓ shift: passed')", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """All of them as one class, graded at once, and what was left afterwards."""
    folder, runtime = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("runtime")
    for name, (cell, _) in CELLS.items():
        save(folder / name / "x.ipynb", verdict("shift"), cell, verdict("place"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "AT_A_TIME", 4)  # some only wait
        patch.setattr(tempfile, "tempdir", str(runtime))
        found = grade_all([folder], LIMIT)
    behind = left_behind(runtime)
    for process, _ in behind:
        os.kill(process, signal.SIGKILL)
    behind += list(runtime.iterdir())
    return {Path(path).parent.name: report for path, report in found.items()}, behind


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_ends_hangs_or_floods_its_kernel(reports, name):
    """The verdict before it counts; the one after it counts where there still is a kernel."""
    report, reason = reports[0][name], CELLS[name][1]
    assert re.fullmatch(reason, report.get(REASON, "")), report
    goes_on = not reason or reason.startswith("interrupted")
    assert report["shift"] == "passed"
    assert report["place"] == ("passed" if goes_on else "no verdict")


def test_nothing_is_left_running(reports):
    """Catches kernels, and processes that a notebook started in a session of their own."""
    assert list(reports[0]) == sorted(CELLS) and reports[1] == []


def test_a_verdict_counts_only_from_the_cell_of_its_check(tmp_path):
    """Catches `display` of a verdict elsewhere; the second of two checks of a task counts."""
    forged = verdict("shift").replace("check.shift(", "")
    path = save(tmp_path / "x.ipynb", "def shift(): ...", forged, verdict("place", "passed"),
                verdict("place", "not yet"), *["x = 1"] * 300, verdict("block"))  # fmt: skip
    assert grade(path) == {"shift": "no verdict", "place": "not yet", "block": "passed"}


def follow(*lines, after=0.0, ends=False, seconds=0):
    """The end that the grader states of a runner which writes these lines, the last one late."""

    async def write_and_follow():
        reader, state = asyncio.StreamReader(), grading.new_state()
        for line in lines[:-1]:
            reader.feed_data(line)
        task = asyncio.create_task(grading._follow(reader, state, seconds))
        await asyncio.sleep(after)
        reader.feed_data(lines[-1])
        if ends:
            reader.feed_eof()
        await task
        return state["end"]

    return asyncio.run(write_and_follow())


def test_the_limit_of_a_cell_does_not_include_the_start_of_the_kernel(monkeypatch):
    """Catches a slow machine on which nobody passes."""
    monkeypatch.setattr(grading, "GRACE_SECONDS", 0.1)
    assert follow(b'{"tasks": []}\n', b'{"end": ""}\n', after=1) == ""
    assert follow(b'{"cell": 1}\n') == "cell 1 did not stop after 0 s"


def test_a_kernel_and_a_notebook_have_limits_too(monkeypatch):
    """Catches a kernel that never starts, and a thousand cells that take 29 seconds each."""
    monkeypatch.setattr(grading, "NOTEBOOK_SECONDS", 0.2)
    assert follow(b'{"cell": 1}\n') == "not at its end after 0.2 s"
    monkeypatch.setattr(grading, "START_SECONDS", 0.1)
    assert follow(b'{"tasks": []}\n') == "no kernel after 0.1 s"


def test_a_runner_that_ends_within_a_line():
    killed = "the process that runs the cells was killed "
    assert follow(b'{"cell": 3}\n', b'{"verd', ends=True) == killed + "in cell 3"
    assert follow(b"", ends=True) == killed + "before the first cell"


def test_a_fault_of_ours_costs_one_notebook(tmp_path, monkeypatch):
    async def fail(*_):
        raise OSError("no more processes")

    monkeypatch.setattr(grading, "_run_in_processes", fail)
    assert grade(save(tmp_path / "x.ipynb")) == {
        REASON: "could not be graded: OSError: no more processes"
    }


# --- Files that are no notebooks, or unusual ones -------------------------------------------------

V4 = b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}'
FILES = {
    "text": (b"hello", "not JSON"),
    "not UTF-8": (b'{"a": "\xe9"}', "not JSON"),
    "nested": (b"[" * 100_000, "not JSON"),
    "empty": (b"", "an empty file"),
    "a list": (b"[]", "not a notebook"),
    "a dict": (b'{"a": 1}', "not a notebook"),
    "no cells": (V4 + b"}", "not a notebook"),
    "cells of another kind": (V4 + b', "cells": [{"cell_type": "code", "source": 3}, 4]}',
                              "not a notebook"),
    "of the future": (b'{"nbformat": 9, "cells": []}', "not a notebook"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_notebook(tmp_path, name):
    content, reason = FILES[name]
    (tmp_path / "x.ipynb").write_bytes(content)
    with pytest.raises(grading_runner.Unreadable, match=reason):
        grading_runner.read_cells(tmp_path / "x.ipynb")


def test_what_cannot_be_read_is_in_the_table(tmp_path):
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "loop.ipynb").symlink_to("loop.ipynb")  # not even root can read it
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with open(tmp_path / "huge.ipynb", "wb") as file:
        file.truncate(grading_runner.FILE_BYTES + 1)
    found = {Path(path).stem: report for path, report in grade_all([tmp_path]).items()}
    assert found.pop("loop")[REASON].startswith("cannot be read: ")
    assert found == {
        "folder": {REASON: "not a file"}, "huge": {REASON: "larger than 200 MB"},
        "pipe": {REASON: "not a file"}, "text": {REASON: "not JSON"},
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_obstacle(tmp_path, encoding):
    path = save(tmp_path / "x.ipynb", "x = 'ä'", "", "## Plug it in", "import os; os._exit(0)")
    path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    assert grading_runner.read_cells(path) == ["x = 'ä'"]


def test_a_notebook_of_format_3(tmp_path):
    code = {"cell_type": "code", "input": "x = 1", "language": "python", "metadata": {},
            "outputs": [], "collapsed": False}  # fmt: skip
    end = {"cell_type": "heading", "level": 2, "source": "Plug it in", "metadata": {}}
    sheets = [{"metadata": {}, "cells": [code, end, code]}]
    text = json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": sheets})
    (tmp_path / "x.ipynb").write_text(text)
    assert grading_runner.read_cells(tmp_path / "x.ipynb") == ["x = 1"]


def test_names_of_any_kind(tmp_path):
    """One name in two folders; spaces, Chinese, an escape sequence; a kernel that is not here."""
    first = save(tmp_path / "z" / "x.ipynb", verdict("shift"))
    second = save(tmp_path / "a" / "x.ipynb", verdict("shift", "not yet"))
    kernel = {"name": "julia-9", "display_name": "Julia", "language": "julia"}
    third = json.loads(first.read_text()) | {"metadata": {"kernelspec": kernel}}
    (tmp_path / "学生 1\x1b[31m\n.ipynb").write_text(json.dumps(third))
    found = grade_all([first, tmp_path])  # in this order, and none of them twice
    assert list(found)[:2] == [str(first), str(second)]
    assert [report["shift"] for report in found.values()] == ["passed", "not yet", "passed"]
    assert table(found).splitlines()[2].endswith(r"学生 1\x1b[31m\n.ipynb")


# --- The command ----------------------------------------------------------------------------------


def test_the_table_counts_and_gives_reasons():
    lines = table({
        "a": {"shift": "passed", "place": "not yet", "block": "not started"},
        "b": {REASON: "not JSON"},
        "c": {"shift": "no verdict", REASON: "cell 7 did not stop after 30 s"},
        "d": {REASON: NOT_GRADED},
    }).splitlines()  # fmt: skip
    assert [re.sub(" +", " ", line) for line in lines] == [
        " 1 of 3 passed, 1 not started a: place (not yet)",
        "no verdict b: not JSON",
        " 0 of 1 passed c: shift (no verdict); cell 7 did not stop after 30 s",
        "no verdict d: not graded",
        "4 notebooks: 1 of 4 tasks passed; 1 not graded, run the command again;"
        " 2 with a problem, open them in Jupyter",
    ]
    assert REASON not in TASKS


@pytest.fixture
def command(tmp_path):
    """`minidalle grade` of a quick notebook that is done, and of two endless ones."""
    save(tmp_path / "a.ipynb", verdict("shift"))
    loop = "import time\nopen('running', 'w').close()\ntime.sleep(600)"
    for name in ("b", "c"):
        save(tmp_path / f"{name}.ipynb", verdict("shift"), loop)
    (tmp_path / "runtime").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "minidalle", "grade", str(tmp_path), "--seconds", "900"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "runtime")},
    )  # fmt: skip
    seen = b""
    while b"1/3" not in seen:
        seen += process.stderr.read1()
        assert process.poll() is None, seen
    wait_until((tmp_path / "running").exists)
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_prints_the_table_so_far(command, tmp_path):
    command.send_signal(signal.SIGINT)
    printed = command.communicate(timeout=120)[0].decode().splitlines()
    assert command.returncode == 130 and len(printed) == 4
    assert " 1 of  1 passed" in printed[0] and "b.ipynb: not graded" in printed[1]
    assert "c.ipynb: not graded" in printed[2]
    assert printed[3].startswith("3 notebooks: 1 of 1 tasks passed; 2 not graded")
    assert left_behind(tmp_path / "runtime") == [] == list((tmp_path / "runtime").iterdir())


def test_a_second_ctrl_c_does_not_cost_the_table(tmp_path, monkeypatch):
    async def work(*_):
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(600)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.1)

    monkeypatch.setattr(grading, "_run_in_processes", work)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert grade(save(tmp_path / "x.ipynb")) == {REASON: NOT_GRADED}
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_kill_9_of_the_command_leaves_nothing_running(command, tmp_path):
    folder = tmp_path / "runtime"
    assert len(left_behind(folder)) >= 2
    command.kill()
    wait_until(lambda: not left_behind(folder) and not list(folder.iterdir()))
    assert left_behind(folder) == []


@pytest.mark.parametrize("what", ["nothing.ipynb", "empty", "--seconds=0"])
def test_grading_of_nothing_is_one_line(what, tmp_path, capsys):
    assert main(["grade", what if what.startswith("-") else str(tmp_path / what)]) == 2
    assert capsys.readouterr().err.startswith("minidalle: ")


def test_checkpoints_are_not_graded_and_nothing_twice(tmp_path):
    path = save(tmp_path / "x.ipynb")
    save(tmp_path / ".ipynb_checkpoints" / "x-checkpoint.ipynb")
    assert notebooks_in([path, tmp_path, path]) == [path]


# --- With the real checks -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    """Three students: one is done, one has not begun, one has it wrong in three ways."""
    if not FOLDER.exists():
        pytest.skip("the planted faults are tried on a copy without notebooks")
    folder = tmp_path_factory.mktemp("class")
    name = "07_the_prior.ipynb"
    wrong = nbformat.read(FOLDER / "solutions" / name, as_version=4)
    for cell in wrong.cells:
        if "def place" in cell.source:
            cell.source = "def place(i, grid):\n    return i % grid, i // grid"
        if "def shift" in cell.source:
            cell.source = "def shift(stream, start):\n    while True:\n        pass"
        if cell.source.startswith("check.block"):
            cell.source = ""
    right = nbformat.read(FOLDER / "solutions" / name, as_version=4)
    fresh = nbformat.read(FOLDER / "exercises" / name, as_version=4)
    for student, notebook in (("ada", right), ("bob", fresh), ("eve", wrong)):
        (folder / student).mkdir()
        nbformat.write(notebook, folder / student / name)
    return folder


def test_a_class(classroom, capsys, monkeypatch):
    """Catches an endless loop that stops the teacher, and a missing check that counts as passed."""
    monkeypatch.setattr(grading, "AT_A_TIME", 3)
    assert main(["check", "progress", str(classroom), "--json", "--seconds", "20"]) == 0
    reports = json.loads(capsys.readouterr().out)
    found = {Path(path).parent.name: report for path, report in reports.items()}
    assert set(found["ada"].values()) == {"passed"} and len(found["ada"]) == 5
    assert set(found["bob"].values()) == {"not started"} and len(found["bob"]) == 5
    assert found["eve"] == {
        "shift": "no verdict", "place": "not yet", "joint_loss": "passed", "block": "no verdict",
        "count_parameters": "passed", REASON: "interrupted after 20 s: cell 3",
    }  # fmt: skip
    assert " 0 of  5 passed, 5 not started" in table(reports)
