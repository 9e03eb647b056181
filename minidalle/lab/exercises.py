"""Makes the students' notebooks from the teachers': `python -m minidalle.lab.exercises`

notebooks/solutions/ is the source of truth, with nbgrader's marks; notebooks/exercises/ is made
from it and never edited. What stands between the marks of a solution becomes a stub, hidden tests
and outputs go, nothing else changes: it is what nbgrader's own `generate_assignment` does.
"""

import re
import sys
from pathlib import Path

import nbformat

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


def generate(folder: Path = FOLDER) -> dict[Path, str]:
    """Every student's notebook: its path, and the text that belongs there."""
    return {
        folder / "exercises" / path.name: nbformat.writes(
            student_copy(nbformat.read(path, as_version=4))
        )
        + "\n"
        for path in sorted((folder / "solutions").glob("*.ipynb"))
    }


def main() -> int:
    for path, text in generate().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
