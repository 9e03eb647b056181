"""Grade notebooks: which exercises each of them passes.

Each notebook runs in a process of its own (a fresh kernel), cell by cell up to "Plug it in", with a
time limit per cell. Nothing is written back. The verdicts of the checks are read from the outputs.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from minidalle.errors import MinidalleError
from minidalle.lab.checks import TASKS
from minidalle.lab.checks.engine import MIME, NOT_STARTED, PASSED

NO_VERDICT = "no verdict"  # the cell was deleted, raised before its check, or took too long


def notebooks_in(paths: Iterable[Path]) -> list[Path]:
    """The notebooks among paths and below them. Raises MinidalleError where there is none."""
    found = []
    for path in paths:
        if path.suffix == ".ipynb":
            if not path.exists():
                raise MinidalleError(f"{path} does not exist")
            found.append(path)
        else:
            found += [
                p for p in sorted(path.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts
            ]
    if not found:
        raise MinidalleError(f"no notebook in {', '.join(map(str, paths))}: give one, or a folder")
    return found


def grade_notebook(path: Path, seconds: int = 30) -> dict[str, str]:
    """The status of every task that a notebook answers or checks, in their order."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        raise MinidalleError(f"{path} is no notebook: {error}") from error
    cells = notebook.cells
    ends = [i for i, c in enumerate(cells) if c.source.startswith("## Plug it in")]
    notebook.cells = [c for c in cells[: ends[0] if ends else None] if c.cell_type == "code"]
    text = "\n".join(cell.source for cell in notebook.cells)
    asked = [name for name in TASKS if f"check.{name}(" in text or f"def {name}(" in text]
    client = NotebookClient(
        notebook, timeout=seconds, interrupt_on_timeout=True, allow_errors=True,
        kernel_name="python3", resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    client.execute()
    verdicts = {}
    for cell in notebook.cells:
        for output in cell.outputs:
            if verdict := output.get("data", {}).get(MIME):
                verdicts[verdict["task"]] = verdict["status"]
    return {name: verdicts.get(name, NO_VERDICT) for name in asked}


def table(reports: dict[str, dict[str, str]]) -> str:
    """One line a notebook: how much is passed, and what is not."""
    lines = []
    for name, report in reports.items():
        passed = sum(status == PASSED for status in report.values())
        open_ = [
            f"{task} ({status})" for task, status in report.items()
            if status not in (PASSED, NOT_STARTED)
        ]  # fmt: skip
        new = sum(status == NOT_STARTED for status in report.values())
        summary = f"{passed:2} of {len(report):2} passed" + (f", {new} not started" if new else "")
        lines.append(f"{summary:32} {name}" + (f": {', '.join(open_)}" if open_ else ""))
    return "\n".join(lines)


def grade_all(
    paths: Iterable[Path], seconds: int = 30, bar: Callable[[Iterable], Iterable] = iter
) -> dict[str, dict[str, str]]:
    """`grade_notebook` of every notebook, by its path."""
    return {str(path): grade_notebook(path, seconds) for path in bar(notebooks_in(list(paths)))}
