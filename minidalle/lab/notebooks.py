"""Runs notebooks and writes their outputs: the only writer, so that a diff shows what changed.

    python -m minidalle.lab.notebooks run notebooks/*.ipynb      execute at `class`, normalise, save
    python -m minidalle.lab.notebooks table                      cells, sizes, measured minutes

What differs from run to run without meaning is taken out: times of execution, widget state, the
Python version, random cell names. Minutes and hardware are kept in the notebook's metadata, and
the minutes go from there into the README's table of chapters.
"""

import argparse
import os
import platform
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
LIMIT = 1800  # seconds for one cell


def run(path: Path, preset: str = "class") -> nbformat.NotebookNode:
    """Execute a notebook from a fresh kernel and return it, normalised."""
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "MINIDALLE_PRESET": preset}
    resources = {"metadata": {"path": path.parent}}
    client = NotebookClient(notebook, timeout=LIMIT, kernel_name="python3", resources=resources)
    began = time.monotonic()
    client.execute(env=environment)
    minutes = round((time.monotonic() - began) / 60, 1)
    return normalise(notebook, path.stem, minutes, preset)


def normalise(notebook, stem: str, minutes: float, preset: str):
    """Take out what differs from run to run; note how long it took, and on what."""
    notebook.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
        minidalle={"minutes": minutes, "preset": preset, "hardware": hardware()},
    )
    count = 0
    for i, cell in enumerate(notebook.cells):
        cell.id = f"{stem[:40]}-{i:02d}".replace("_", "-")
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.NotebookNode({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
            for output in cell.outputs:
                output.pop("transient", None)
                if "metadata" in output:
                    output.metadata = nbformat.NotebookNode()
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    return notebook


def hardware() -> str:
    """Cores and kind of processor, in words."""
    return f"{os.cpu_count()} CPU cores, {platform.machine()}"


def _facts(notebook) -> dict:
    return notebook.metadata.get("minidalle", {})  # nothing in one that was never run


def table(folder: Path = FOLDER) -> str:
    """Chapter, cells, size and measured minutes, as Markdown."""
    rows = ["| chapter | minutes | cells | kB |", "| --- | --- | --- | --- |"]
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
        facts = _facts(notebook)
        rows.append(
            f"| [{title}]({folder.name}/{path.name}) | {facts.get('minutes', '?')}"
            f" | {len(notebook.cells)} | {path.stat().st_size // 1000} |"
        )
    return "\n".join(rows)


def with_minutes(readme: str, folder: Path = FOLDER) -> str:
    """The README with measured minutes in the last column of its table of chapters."""
    for path in folder.glob("*.ipynb"):
        minutes = _facts(nbformat.read(path, as_version=4)).get("minutes", "?")
        row = rf"^(\| \[[^]]*\]\({folder.name}/{path.name}\) \|.*\|)[^|]*\|$"
        readme = re.sub(row, rf"\1 {minutes} |", readme, flags=re.M)
    return readme


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m minidalle.lab.notebooks")
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("notebooks", nargs="*", type=Path, help="(all of them)")
    parser.add_argument("--preset", default="class")
    args = parser.parse_args(argv)
    if args.what == "table":
        print(table())
        return 0
    for path in args.notebooks or sorted(FOLDER.glob("*.ipynb")):
        notebook = run(path, args.preset)
        nbformat.write(notebook, path)
        minutes = notebook.metadata["minidalle"]["minutes"]
        print(f"{path}: {minutes} minutes, {path.stat().st_size // 1000} kB", file=sys.stderr)
    readme = FOLDER.parent / "README.md"
    readme.write_text(with_minutes(readme.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
