"""Every planted fault is killed: some test of its module fails once the fault is in.

python -m pytest tests/mutants -rA        shows which test kills which fault
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.faults import FAULTS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def copy(tmp_path_factory):
    """The package and its tests, to be broken at will."""
    folder = tmp_path_factory.mktemp("mutant")
    for name in ("minidalle", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(copy: Path, tests: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider",
         str(Path("tests", tests).with_name(f"test_{Path(tests).name}.py"))],
        cwd=copy, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_there_are_enough_and_none_twice():
    assert len(FAULTS) >= 40 and len({f.name for f in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("tests", sorted({f.tests for f in FAULTS}))
def test_without_a_fault_the_tests_pass(copy, tests):
    """Otherwise they would kill anything."""
    done = run(copy, tests)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_the_fault_is_killed(copy, fault):
    path = copy / "minidalle" / f"{fault.module}.py"
    sound = path.read_text()
    assert sound.count(fault.right) == 1, f"{fault.right!r} is no longer in {path.name}"
    try:
        path.write_text(sound.replace(fault.right, fault.wrong))
        done = run(copy, fault.tests)
    finally:
        path.write_text(sound)
    killers = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    print(f"{fault.name}: killed by {killers}")
    assert done.returncode == 1 and killers, f"{fault.name} survives:\n{done.stdout[-2000:]}"
