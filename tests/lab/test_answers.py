"""No wrong answer passes, no right one fails: the table of both, and machine-made variants."""

import copy
import itertools
import re
from pathlib import Path

import pytest

from minidalle.lab.checks import TASKS
from minidalle.lab.checks.engine import PASSED, WRONG, check_answer, examples
from tests.lab import answers
from tests.lab.variants import accepts, solutions, survivors

ACCEPTED = Path(__file__).parent / "accepted_variants.txt"


def ids(table):
    return [f"{name}: {what}" for name, what, _ in table]


@pytest.mark.parametrize(("name", "what", "answer"), answers.WRONG, ids=ids(answers.WRONG))
def test_a_wrong_answer_fails(name, what, answer):
    assert check_answer(TASKS[name], answer).status == WRONG


@pytest.mark.parametrize(("name", "what", "answer"), answers.RIGHT, ids=ids(answers.RIGHT))
def test_a_right_answer_passes(name, what, answer):
    verdict = check_answer(TASKS[name], answer)
    assert verdict.status == PASSED, verdict


@pytest.mark.parametrize(("name", "why", "answer"), answers.DIAGNOSED, ids=ids(answers.DIAGNOSED))
def test_a_wrong_answer_is_diagnosed_however_it_is_written(name, why, answer):
    verdict = check_answer(TASKS[name], answer)
    assert why in dict(verdict.lines)["likely"], verdict


@pytest.mark.parametrize("name", TASKS)
def test_every_argument_matters(name):
    """Catches inputs of which one is the same throughout, or follows from the others."""
    task = TASKS[name]
    cases, expected = examples(task)
    for i, fixed in itertools.product(range(len(cases[0])), cases):

        def careless(*arguments, i=i, fixed=fixed):
            return task.answer(*arguments[:i], copy.deepcopy(fixed[i]), *arguments[i + 1 :])

        assert not accepts(task, careless, cases, expected), f"argument {i} as in {fixed}"


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.trained])
def test_a_gradient_reaches_every_argument_that_is_trained(name):
    """Catches a misspelt name, and inputs on which the right gradient is zero."""
    _, expected = examples(TASKS[name])
    for argument in TASKS[name].trained:
        assert any(argument in e.gradients and e.gradients[argument].any() for e in expected)


@pytest.mark.parametrize("name", TASKS)
def test_the_teachers_answer_passes(name):
    _, space = solutions()[name]
    verdict = check_answer(TASKS[name], space[name])
    assert verdict.passed, verdict


@pytest.mark.parametrize("name", TASKS)
def test_only_variants_that_are_right_are_accepted(name):
    """Each is one change away from the solution; the file lists those that were read and are right.

    Write it anew with `python -m tests.lab.variants --accept`, and read what has been added.
    """
    blocks = re.split(r"^(\w+)\n", ACCEPTED.read_text(encoding="utf-8"), flags=re.M)
    known = dict(zip(blocks[1::2], blocks[2::2], strict=True))
    count, accepted = survivors(name, *solutions()[name])
    assert count >= 30
    new = set(accepted) - {line.strip() for line in known[name].splitlines()}
    assert not new, new
