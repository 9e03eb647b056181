"""`minidalle grade`: which exercises a student's notebooks pass."""

import argparse
import json
from functools import partial
from pathlib import Path

from tqdm import tqdm

from minidalle.errors import MinidalleError


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("grade", help="which exercises a student's notebooks pass")
    p.set_defaults(run=grade)
    p.add_argument("paths", nargs="*", type=Path, default=[Path("notebooks/exercises")],
                   help="notebooks, or folders of them (notebooks/exercises)")  # fmt: skip
    p.add_argument("--seconds", type=int, default=30, help="time limit per cell (30)")
    p.add_argument("--json", action="store_true", help="print the result as JSON")
    return p


def grade(args: argparse.Namespace) -> None:
    """Run the notebooks and print a line for each."""
    try:
        from minidalle.lab.grading import grade_all, table
    except ImportError as error:
        raise MinidalleError(f"{error}: pip install -e '.[notebooks]' first") from error

    grades = grade_all(args.paths, args.seconds, partial(tqdm, desc="running", unit="notebook"))
    print(json.dumps(grades, indent=2, ensure_ascii=False) if args.json else table(grades))
