"""`minidalle grade`: which exercises a student's notebooks pass."""

import argparse
import json
from functools import partial
from pathlib import Path

from tqdm import tqdm

from minidalle.cli.errors import CONTROL, printable
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


def grade(args: argparse.Namespace) -> int:
    """Run the notebooks and print a line for each; 130 where Ctrl-C came before the last."""
    try:
        from minidalle.lab.grading import NOT_GRADED, REASON, grade_all
    except ImportError as error:
        raise MinidalleError(f"{error}: pip install -e '.[notebooks]' first") from error

    if args.seconds < 1:
        raise MinidalleError(f"--seconds must be ≥ 1, got {args.seconds}; try 30")
    reports = grade_all(args.paths, args.seconds, partial(tqdm, desc="running", unit="notebook"))
    if args.json:
        text = json.dumps(reports, indent=2, ensure_ascii=False)
        print(CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text))
    else:
        print(table(reports))
    return 130 if any(r.get(REASON) == NOT_GRADED for r in reports.values()) else 0


def table(reports: dict[str, dict[str, str]]) -> str:
    """One line per notebook: how much is passed, what is not, and why. The last line counts."""
    from minidalle.lab.checks.engine import NOT_STARTED, PASSED
    from minidalle.lab.grading import NO_VERDICT, NOT_GRADED, REASON

    lines, all_passed, all_tasks, reasons = [], 0, 0, []
    for name, report in reports.items():
        tasks = {task: status for task, status in report.items() if task != REASON}
        passed = sum(status == PASSED for status in tasks.values())
        new = sum(status == NOT_STARTED for status in tasks.values())
        summary = f"{passed:2} of {len(tasks):2} passed" + (f", {new} not started" if new else "")
        open_ = ", ".join(f"{task} ({status})" for task, status in tasks.items()
                          if status not in (PASSED, NOT_STARTED))  # fmt: skip
        reason = report.get(REASON, "")
        if reason and not tasks:
            summary = NO_VERDICT
        why = "; ".join(filter(None, (open_, reason)))
        line = f"{summary:32} {name}" + (f": {why}" if why else "")
        lines.append(printable(line).replace("\n", "\\n"))  # a name may hold anything
        all_passed, all_tasks = all_passed + passed, all_tasks + len(tasks)
        reasons += [reason] if reason else []
    count = f"{len(reports)} notebooks: {all_passed} of {all_tasks} tasks passed"
    if ungraded := reasons.count(NOT_GRADED):
        count += f"; {ungraded} {NOT_GRADED}, run the command again"
    if problems := len(reasons) - ungraded:
        count += f"; {problems} with a problem, open them in Jupyter"
    return "\n".join([*lines, count])
