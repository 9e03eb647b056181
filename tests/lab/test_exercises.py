"""The students' notebooks: fresh, without a solution in them, as nbgrader would make them."""

import ast
import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from minidalle.lab.checks import TASKS, check
from minidalle.lab.exercises import FOLDER, generate

SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
EXERCISES = FOLDER / "exercises"
IDS = [path.stem for path in SOLUTIONS]


def sources(path, kind="code"):
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == kind]


def test_they_are_fresh():
    """Catches a student's notebook that was edited, and one that was forgotten."""
    made = generate()
    names = {path.name for path in made} - {"README.md"}
    assert {path.name for path in EXERCISES.glob("*.ipynb")} == names
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, (
            f"run python -m minidalle.lab.exercises: {path}"
        )


def test_every_task_has_its_place():
    """Catches a task without a stub, a stub without a check, and a chapter that is missing."""
    found = []
    for path in SOLUTIONS:
        code = "\n".join(sources(path))
        names = re.findall(r"^def (\w+)\(.*\n    \"\"\"(?:.|\n)*?\"\"\"\n    ### BEGIN", code, re.M)
        chapter = int(path.stem[:2])
        assert names == [n for n, t in TASKS.items() if t.chapter == chapter]
        assert re.findall(r"^check\.(\w+)\(\1\)$", code, re.M) == names
        found += names
    assert found == list(TASKS)


@pytest.mark.parametrize("path", SOLUTIONS, ids=IDS)
def test_a_stub_and_its_check_call_the_arguments_by_the_same_names(path):
    """Catches a verdict that speaks of `mu` to a student whose function has a `mean`."""
    found = [node for source in sources(path) for node in ast.walk(ast.parse(source))]
    stubs = {n.name: n for n in found if isinstance(n, ast.FunctionDef) and n.name in TASKS}
    assert stubs
    for name, stub in stubs.items():
        told = list(inspect.signature(TASKS[name].answer).parameters)
        assert [argument.arg for argument in stub.args.args] == told, name


@pytest.mark.parametrize("path", SOLUTIONS, ids=IDS)
def test_plug_it_in_names_the_tasks_that_it_needs(path):
    cells = nbformat.read(path, as_version=4).cells
    start = next(i for i, c in enumerate(cells) if c.source.startswith("## Plug it in"))
    code = "\n".join(c.source for c in cells[start:] if c.cell_type == "code")
    used = [name for name in TASKS if re.search(rf"(?<![\w.\"]){name}\b(?! =)", code)]
    mine = [name for name in used if TASKS[name].chapter == int(path.stem[:2])]
    assert mine, path
    for name in mine:
        assert f"`{name}`" in cells[start].source.split("It needs")[-1], name


@pytest.mark.parametrize("path", SOLUTIONS, ids=IDS)
def test_no_solution_leaks(path):
    """No line of a solution stands in the student's copy."""
    student = (EXERCISES / path.name).read_text(encoding="utf-8")
    assert "SOLUTION" not in student and "HIDDEN" not in student
    copy, whole = "\n".join(sources(EXERCISES / path.name)), "\n".join(sources(path))
    assert copy.count("raise NotImplementedError()") == whole.count("### BEGIN SOLUTION")
    for source in sources(path):
        for solution in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", source, re.S):
            for line in filter(lambda line: len(line.strip()) > 24, solution.splitlines()):
                assert line.strip() not in copy, line


@pytest.mark.parametrize("path", SOLUTIONS, ids=IDS)
def test_each_task_says_why_how_hard_and_how_long(path):
    told = "\n".join(sources(path, "markdown"))
    for name, task in TASKS.items():
        if task.chapter == int(path.stem[:2]):
            dots = "●" * task.difficulty + "○" * (5 - task.difficulty)
            assert f"{dots} · about {task.minutes} minutes" in told, name
    assert "## Plug it in" in told
    for source in sources(path):
        assert max(map(len, source.splitlines())) <= 79 and source.count("\n") < 34, source


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """nbgrader's own view of the solutions: a course, and the assignment that it generates."""
    if find_spec("nbgrader") is None:
        told = "no nbgrader here: pip install -e '.[dev]'"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    folder = tmp_path_factory.mktemp("course")
    source = folder / "source" / "minidalle"
    source.mkdir(parents=True)
    for path in SOLUTIONS:
        (source / path.name).write_bytes(path.read_bytes())
    run = [sys.executable, "-m", "nbgrader"]
    done = subprocess.run(
        [*run, "generate_assignment", "minidalle", "--create", f"--course-dir={folder}"],
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("path", SOLUTIONS, ids=IDS)
def test_nbgrader_makes_the_same_student_copy(course, path):
    theirs = nbformat.read(course / "release" / "minidalle" / path.name, as_version=4)
    ours = nbformat.read(EXERCISES / path.name, as_version=4)
    assert [c.source.strip() for c in theirs.cells] == [c.source.strip() for c in ours.cells]


def test_nbgrader_grades_a_right_and_an_empty_submission(course):
    """The teacher's way: what passes our checks gets its points, what is not started gets none."""
    name = "12_measure_and_ablate.ipynb"
    for student, made in (("ada", FOLDER / "solutions" / name), ("bob", EXERCISES / name)):
        notebook = nbformat.read(made, as_version=4)
        marks = [i for i, c in enumerate(notebook.cells) if c.source.startswith("## Plug it in")]
        notebook.cells = notebook.cells[: marks[0]]  # the tasks; the rest takes long
        target = course / "submitted" / student / "minidalle" / name
        target.parent.mkdir(parents=True)
        nbformat.write(notebook, target)
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", "autograde", "minidalle", "--create",
         f"--course-dir={course}"], capture_output=True, text=True, cwd=course,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        scores = {
            student: book.find_submission_notebook(Path(name).stem, "minidalle", student).score
            for student in ("ada", "bob")
        }
    whole = sum(t.difficulty for t in TASKS.values() if t.chapter == 12)
    assert scores == {"ada": whole, "bob": 0}


def test_the_guide_shows_what_a_check_says():
    """Catches an example in the teacher's guide that the checks no longer give."""
    import torch

    def row_mask(text, grid):
        at = torch.arange(text + grid**2) - text
        query, key = at[:, None], at[None, :]
        return (key <= query) & ((query - key < grid) | (key < 0))

    assert repr(check.row_mask(row_mask)) in (FOLDER / "README.md").read_text(encoding="utf-8")
