"""Every exercise and how its check does, a line each: `python -m tests.lab.tasks`

Of each task: does the right answer pass, is a stub "not started", does another right answer pass,
and how many of the planted mistakes fail *with their own diagnosis*. The command fails where any
does not. `pytest tests/lab/test_checks.py` asserts the same, one by one.
"""

import sys

from minidalle.lab.checks import TASKS
from minidalle.lab.checks.engine import NOT_STARTED, PASSED, WRONG, Task, check_answer
from tests.lab import alternatives


def stub(*arguments):
    raise NotImplementedError


def caught(task: Task) -> int:
    """How many of a task's mistakes fail with their own diagnosis."""
    verdicts = [(mistake, check_answer(task, mistake.answer)) for mistake in task.mistakes]
    return sum(v.status == WRONG and ("likely", m.diagnosis) in v.lines for m, v in verdicts)


def main() -> int:
    print(f"{'':4}{'task':24}{'solution':12}{'stub':14}{'alternative':14}mistakes caught")
    good = found = planted = 0
    for task in TASKS.values():
        solution, other = (
            check_answer(task, answer).status
            for answer in (task.answer, getattr(alternatives, task.name))
        )
        empty, mistakes = check_answer(task, stub).status, caught(task)
        found, planted = found + mistakes, planted + len(task.mistakes)
        good += (solution, other, empty, mistakes) == (
            PASSED, PASSED, NOT_STARTED, len(task.mistakes)
        )  # fmt: skip
        print(
            f"{task.chapter:02d}  {task.name:24}{solution:12}{empty:14}{other:14}"
            f"{mistakes} of {len(task.mistakes)}"
        )
    print(f"{good} of {len(TASKS)} tasks are sound; {found} of {planted} mistakes caught")
    return 0 if good == len(TASKS) else 1


if __name__ == "__main__":
    sys.exit(main())
