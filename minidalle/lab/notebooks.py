"""Runs notebooks and writes their outputs. Nothing else does, so a diff shows only what changed.

    python -m minidalle.lab.notebooks run notebooks/*.ipynb      execute at `class`, normalise, save
    python -m minidalle.lab.notebooks sources                    refresh the listings of show_source
    python -m minidalle.lab.notebooks table                      cells, sizes, measured minutes

Meaningless differences between runs are removed: times of execution, widget state, the Python
version, random cell names. Minutes and hardware go into the notebook's metadata, and the minutes
from there into the README's table of chapters.
"""

import argparse
import ast
import importlib
import os
import platform
import re
import sys
import time
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
from nbclient import NotebookClient

from minidalle.lab.source import show_source

FOLDER = Path(__file__).parents[2] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
LIMIT = 3600  # seconds for one cell, on the slowest machine


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
    """Remove meaningless differences between runs; record minutes, preset and hardware."""
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
                if "metadata" in output:  # of a picture its width and its words
                    kept = {k: v for k, v in output.metadata.items() if k == "image/png"}
                    output.metadata = nbformat.NotebookNode(kept)
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    return notebook


def refresh_sources(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Render the listings of `show_source` again from today's code. No cell is run: the arguments
    are found through the notebook's own import statements."""
    names: dict[str, Any] = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                names |= {alias.asname or alias.name: _member(module, alias.name)
                          for alias in node.names}  # fmt: skip
            call = node.value if isinstance(node, ast.Expr) else None
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "show_source":
                shown = show_source(*(_find(names, ast.unparse(a)) for a in call.args))
                for output in cell.outputs:
                    if "text/markdown" in output.get("data", {}):
                        output.data["text/markdown"] = shown.data
    return notebook


def _member(module: ModuleType, name: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    return importlib.import_module(f"{module.__name__}.{name}")


def _find(names: dict[str, Any], dotted: str) -> Any:
    first, *rest = dotted.split(".")
    return reduce(getattr, rest, names[first])


def hardware() -> str:
    """Cores and kind of processor, in words."""
    return f"{os.cpu_count()} CPU cores, {platform.machine()}"


def _measured(notebook: nbformat.NotebookNode) -> dict:
    return notebook.metadata.get("minidalle", {})  # empty in one that was never run


def table(folder: Path = FOLDER) -> str:
    """Chapter, cells, size and measured minutes, as Markdown."""
    rows = ["| chapter | minutes | cells | kB |", "| --- | --- | --- | --- |"]
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title = notebook.cells[0].source.splitlines()[0].lstrip("# ")
        measured = _measured(notebook)
        rows.append(
            f"| [{title}]({folder.name}/{path.name}) | {measured.get('minutes', '?')}"
            f" | {len(notebook.cells)} | {path.stat().st_size // 1000} |"
        )
    return "\n".join(rows)


def with_minutes(readme: str, folder: Path = FOLDER) -> str:
    """The README with measured minutes in the last column of its table of chapters."""
    for path in folder.glob("*.ipynb"):
        minutes = _measured(nbformat.read(path, as_version=4)).get("minutes", "?")
        row = rf"^(\| \[[^]]*\]\({folder.name}/{path.name}\) \|.*\|)[^|]*\|$"
        readme = re.sub(row, rf"\1 {minutes} |", readme, flags=re.M)
    return readme


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m minidalle.lab.notebooks")
    parser.add_argument("what", choices=("run", "sources", "table"))
    parser.add_argument("notebooks", nargs="*", type=Path, help="(all of them)")
    parser.add_argument("--preset", default="class")
    args = parser.parse_args(argv)
    if args.what == "table":
        print(table())
        return 0
    paths = args.notebooks or sorted(FOLDER.glob("*.ipynb"))
    if args.what == "sources":
        for path in paths:
            nbformat.write(refresh_sources(nbformat.read(path, as_version=4)), path)
        return 0
    for path in paths:
        notebook = run(path, args.preset)
        nbformat.write(notebook, path)
        minutes = notebook.metadata["minidalle"]["minutes"]
        print(f"{path}: {minutes} minutes, {path.stat().st_size // 1000} kB", file=sys.stderr)
    readme = FOLDER.parent / "README.md"
    readme.write_text(with_minutes(readme.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
