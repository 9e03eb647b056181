"""Makes the students' notebooks from the teachers': `python -m minidalle.lab.exercises`

notebooks/solutions/ is the source of truth, with nbgrader's marks; notebooks/exercises/ is made
from it and never edited. What stands between the marks of a solution becomes a stub, hidden tests
and outputs go, nothing else changes: it is what nbgrader's own `generate_assignment` does. The
number of tasks and their minutes go into the table of notebooks/README.md.
"""

import re
import sys
from pathlib import Path

import nbformat

from minidalle.lab.checks import TASKS

FOLDER = Path(__file__).parents[2] / "notebooks"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.M | re.S)
HIDDEN = re.compile(r"^ *### BEGIN HIDDEN TESTS\n.*?^ *### END HIDDEN TESTS\n?", re.M | re.S)
STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"


def student_copy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without solutions, hidden tests and outputs."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            source = SOLUTION.sub(STUB, cell.source)
            cell.source = HIDDEN.sub("", source).rstrip("\n")
            cell.outputs, cell.execution_count = [], None
    return notebook


def guide(text: str) -> str:
    """The teacher's guide with today's tasks in the last column of its table of chapters."""
    for chapter in sorted({task.chapter for task in TASKS.values()}):
        tasks = [task for task in TASKS.values() if task.chapter == chapter]
        minutes = sum(task.minutes for task in tasks)
        cell = f"<!-- {chapter:02d} --> {len(tasks)}, {minutes} minutes |"
        text = re.sub(rf"<!-- {chapter:02d} -->[^|]*\|", cell, text)
    return text


def generate(folder: Path = FOLDER) -> dict[Path, str]:
    """All that is made from the solutions: paths, and the text that belongs there."""
    made = {
        folder / "exercises" / path.name: nbformat.writes(
            student_copy(nbformat.read(path, as_version=4))
        )
        + "\n"
        for path in sorted((folder / "solutions").glob("*.ipynb"))
    }
    readme = folder / "README.md"
    return {**made, readme: guide(readme.read_text(encoding="utf-8"))}


def main() -> int:
    for path, text in generate().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
