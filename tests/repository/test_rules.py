"""The rules of the house, so that they stay true when nobody looks."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "minidalle").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def bare(requirement: str) -> str:
    return re.sub(r"\s", "", requirement.split(";")[0])


def test_environment_agrees_with_pyproject():
    """A conda user must get the versions that a pip user gets."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    listed = (extras[name] for name in ("notebooks", "emoji", "tensorboard", "test"))
    wanted = {bare(r) for r in chain(project["dependencies"], *listed)}
    wanted = {r for r in wanted if not r.startswith("minidalle[")}  # their packages are listed
    wanted = {r.replace("torch", "pytorch", 1) if r.startswith("torch>") else r for r in wanted}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = {bare(d) for d in environment["dependencies"] if isinstance(d, str)}
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert conda - {"pip"} | set(pip[1:]) == wanted | {"python" + project["requires-python"]}
    assert environment["channels"] == ["conda-forge"] and pip[0] == "--editable ."


def test_ci_runs_the_readme_test_command():
    """What CI checks is what a reader is told to type."""
    blocks = re.findall(r"```\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    command = next(b for b in blocks if "pytest" in b)
    assert command in (ROOT / ".ci/run").read_text().splitlines()


def test_top_level_holds_what_was_agreed():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    top = {path.split("/")[0] for path in listed}
    fixed = {"notebooks", "minidalle", "tests", "data", "environment.yml", "README.md"}
    assert {t for t in top if not t.startswith(".")} <= fixed | {"pyproject.toml", "LICENSE"}


def test_the_core_knows_no_screen():
    """Only lab/ may draw: everything else must import without a plotting or notebook library."""
    modules = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in PACKAGE
        if "lab" not in p.parts and p.stem != "__main__"
    ]
    code = (
        "import sys\n"
        "for name in ('matplotlib', 'IPython', 'ipywidgets', 'nbformat'):\n"
        "    sys.modules[name] = None\n"
        f"for module in {modules!r}:\n    __import__(module)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_terminal_alone_prints_and_presets_alone_read_the_environment():
    for path in PACKAGE:
        text = path.read_text()
        if {"lab", "cli"} & set(path.parts):
            continue
        calls = [n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
        assert not any(isinstance(f, ast.Name) and f.id == "print" for f in calls), path
        assert path.stem == "presets" or "os.environ" not in text, path


def test_safe_by_construction():
    """No pickle, no eval, no shell: a bundle from a stranger can run nothing."""
    forbidden = re.compile(
        r"torch\.load|torch\.save|\bpickle\.|import pickle|\beval\(|\bexec\(|shell=True|os\.system"
        r"|yaml\.load\(|import \*|sys\.path"
    )
    for path in PACKAGE:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("#")[0].replace(".eval()", "")
            assert not forbidden.search(code), f"{path}:{number}: {line}"


def test_public_things_are_documented():
    for path in PACKAGE:
        tree = ast.parse(path.read_text())
        assert path.stem == "__init__" or ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


def asserts(function: ast.FunctionDef) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name.startswith("assert") or name in {"raises", "warns", "gradcheck"}:
                return True
    return False


@pytest.mark.parametrize("path", TESTS, ids=lambda p: p.stem)
def test_no_test_is_without_an_assertion(path):
    helpers = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            helpers[node.name] = node
    for name, node in helpers.items():
        if name.startswith("test_"):
            called = {
                getattr(n.func, "id", getattr(n.func, "attr", ""))
                for n in ast.walk(node)
                if isinstance(n, ast.Call)
            }
            assert asserts(node) or any(asserts(helpers[c]) for c in called if c in helpers), name


def test_every_fault_of_the_table_has_its_tests():
    """A test that was renamed leaves its line of `python -m tests.faults` without proof."""
    from tests.faults import ROWS

    for row in ROWS:
        text = (ROOT / "tests" / f"{row.file}.py").read_text()
        for test in row.tests.split():
            assert f"def {test}(" in text, f"{row.fault}: {test}"


def test_the_model_card_is_fresh():
    """A table that was edited by hand, or left behind by a new report."""
    from tests.benchmarks.card import card

    assert (ROOT / "data" / "bundle" / "README.md").read_text(encoding="utf-8") == card()


def test_bundle_is_small_enough():
    """History keeps every copy of it."""
    files = list((ROOT / "data" / "bundle").iterdir())
    assert sum(f.stat().st_size for f in files) <= 24e6


def test_a_built_wheel_carries_the_bundle(tmp_path):
    """Installed from a wheel there is no data/ beside the package."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, target], check=True)
    names = {p.name for p in (target / "minidalle" / "data" / "bundle").iterdir()}
    assert {"manifest.json", "prior.safetensors", "dvae.safetensors", "clip.safetensors"} <= names


def test_planted_faults_still_fit_the_code():
    """Catches a fault whose line was rewritten: it would be planted nowhere."""
    from tests.mutants.faults import FAULTS

    package = ROOT / "minidalle"
    lost = [
        f.name for f in FAULTS
        if (package / f"{f.module}.py").read_text(encoding="utf-8").count(f.right) != 1
    ]  # fmt: skip
    assert not lost
