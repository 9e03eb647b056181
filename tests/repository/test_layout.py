"""The layout of the package: rooms, the order of imports, the length of files."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import minidalle

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "minidalle"
FOUNDATIONS = ("errors", "files", "tensors", "normalise", "contact_sheet")
LESSONS = (
    "tokenizer", "quantize", "residual", "dvae", "attention", "transformer", "prior", "sampling",
    "clip", "bundle", "pipeline", "editing", "describing",
)  # fmt: skip
# A module imports from its own layer or an earlier one. The lesson and the data sets stand side by
# side: neither knows the other.
LAYERS = {
    "foundations": 0, "world": 1, "datasets": 2, "lesson": 2, "baselines": 3, "training": 4,
    "evaluation": 5, "lab": 6, "cli": 7,
}  # fmt: skip
LONG = {"world/judge.py"}  # one algorithm, read from top to bottom


def modules() -> dict[str, Path]:
    """Every module by its name within the package: "dvae", "world.judge"."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    }


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of the package that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minidalle"):
            base = node.module.removeprefix("minidalle").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found |= {n for n in (base, inner) if n in modules()}
    return frozenset(found)


def layer(name: str) -> str:
    """The room of a module, or its part of the top level."""
    room, _, inner = name.rpartition(".")
    if room:
        return room.split(".")[0]
    return "foundations" if inner in FOUNDATIONS else "lesson"


@pytest.mark.parametrize("name", modules())
def test_imports_go_one_way(name):
    """Catches a model that knows the command line, and a world that knows its pupils."""
    for other in imports(name):
        ours, theirs = layer(name), layer(other)
        assert ours == theirs or LAYERS[theirs] < LAYERS[ours], f"{name} imports {other}"


def test_each_lesson_imports_only_earlier_lessons():
    """Catches a chapter that cannot be read before the next."""
    for i, lesson in enumerate(LESSONS):
        later = imports(lesson) & set(LESSONS[i:])
        assert not later, f"{lesson} imports {later}"


def test_no_circle():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path, name))
        if name not in done:
            for other in imports(name):
                visit(other, (*path, name))
            done.add(name)

    for name in modules():
        visit(name, ())
    assert done == set(modules())


def test_the_top_level_is_the_lesson_and_seven_rooms():
    """Catches a module that lands between the lessons, and a lesson that the docstring forgets."""
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert files == {*FOUNDATIONS, *LESSONS}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(LAYERS) - {"foundations", "lesson"} and len(rooms) == 7
    named = re.findall(r"^    (\w+) {2,}", minidalle.__doc__, re.M)
    assert named == list(LESSONS)


def test_no_file_is_too_long():
    """A module that outgrows three hundred lines is two ideas."""
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name not in LONG and "lab/checks" not in name:
            assert len(path.read_text().splitlines()) <= 300, name


def test_models_know_nothing_of_processes_and_files():
    """Catches plumbing that creeps back into the lesson."""
    forbidden = re.compile(r"torch\.distributed|world_size|all_gather|tqdm|print\(|os\.environ")
    for lesson in LESSONS:
        assert not forbidden.search(modules()[lesson].read_text()), lesson


def test_the_words_are_the_fields_own():
    """A student must be able to search for every name: no private dialect."""
    dialect = re.compile(r"\b(told|reborn|luck|sibling)\b")
    seeds = re.compile(r'Random\(f"')  # the names of random streams stay: seeds depend on them
    for name, path in modules().items():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert seeds.search(line) or not dialect.search(line), f"{name}:{number}: {line}"
