"""The anatomy of a chapter. That each runs, from a fresh kernel, is nbval's to test (pyproject)."""

import re
from pathlib import Path

import nbformat
import pytest

from minidalle.lab.notebooks import refresh_sources, with_minutes

FOLDER = Path(__file__).parents[2] / "notebooks"
CHAPTERS = sorted(FOLDER.glob("[0-2][0-9]_*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def cells(path, kind):
    return [cell.source for cell in read(path).cells if cell.cell_type == kind]


def test_all_chapters_are_there():
    """Catches a chapter that the teacher's guide lacks, and one that is missing."""
    guide = (FOLDER / "README.md").read_text(encoding="utf-8")
    numbers = [path.stem[:2] for path in CHAPTERS]
    assert numbers == re.findall(r"^\| (\d\d) \| [A-Z][^|]+ \|", guide, re.M)
    assert numbers == [f"{i:02d}" for i in range(len(numbers))]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_anatomy(path):
    """Title, goals, needs, minutes, map; summary, exercises, reading, next."""
    number, told = path.stem[:2], "\n\n".join(cells(path, "markdown"))
    assert told.startswith(f"# {number} · ")
    for part in ("**After this chapter you can**", "**You need**", "**Time:**", "## Summary",
                 "## Exercises", "## Reading"):  # fmt: skip
        assert part in told, part
    assert "system_map(" in "\n".join(cells(path, "code"))
    assert path == CHAPTERS[-1] or "**Next:**" in told
    assert len(re.findall(r"^## ", told, re.M)) >= 6
    assert "$" in told or number in {"00", "01", "05"}, "an equation"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_cells_are_short(path):
    notebook, code = read(path), cells(path, "code")
    assert 35 <= len(notebook.cells) <= 60
    assert path.stat().st_size <= 600_000  # some forty pictures; a hosting site shows them at once
    for source in code:
        lines = source.splitlines()
        assert len(lines) <= 15 and max(map(len, lines)) <= 76, source
    told = " ".join(cells(path, "markdown"))
    assert len(told.split()) > 350


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", "\n".join(cells(path, "markdown"))):
        assert target.startswith("https://") or (FOLDER / target).exists(), target


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_deterministic_cells_are_marked(path):
    """What a reader predicts and every run must print again, at any preset."""
    assert sum("NBVAL_CHECK_OUTPUT" in source for source in cells(path, "code")) >= 1


def test_the_readme_tells_the_measured_minutes():
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert with_minutes(readme) == readme, "run python -m minidalle.lab.notebooks run"
    assert all(re.search(rf"/{path.name}\).* \d+\.\d \|$", readme, re.M) for path in CHAPTERS)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_stored_outputs_are_whole_and_from_class(path):
    """Catches a page that was saved half run, or from the quick preset of the tests."""
    notebook = read(path)
    assert notebook.metadata.minidalle.preset == "class"
    drawn = re.compile(r"(pictures|curves|bars|matrix|scatter|verdicts|system_map|print)\(|still$")
    for cell in notebook.cells:
        if cell.cell_type == "code" and drawn.match(cell.source.splitlines()[-1]):
            assert cell.outputs, cell.source


def test_widgets_have_a_still_beside_them():
    """A page read without a kernel shows no slider: the figure must be there as well."""
    count = 0
    for path in CHAPTERS:
        code = cells(path, "code")
        for i, source in enumerate(code):
            if re.search(r"^explore\(", source, re.M):
                count += 1
                assert re.search(r"^still = ", source, re.M), source
                assert code[i + 1].strip() == "still", path
    assert count >= 8


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_listings_show_todays_code(path):
    """Catches a chapter that explains code which has changed since."""
    notebook, stored = read(path), read(path)
    assert refresh_sources(notebook) == stored, "run python -m minidalle.lab.notebooks sources"
