"""Checks of the exercises: right answers pass, stubs are not started, wrong ones are diagnosed."""

import pytest

from minidalle.errors import MinidalleError
from minidalle.lab.checks import TASKS, check
from minidalle.lab.checks.ladder import NOT_STARTED, PASSED, WRONG, climb

PAIRS = [(task, i) for task in TASKS.values() for i in range(len(task.mistakes))]


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_the_right_answer_passes(task):
    assert climb(task, task.answer).status == PASSED


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_stub_is_not_started(task):
    def stub(*arguments):
        raise NotImplementedError

    verdict = climb(task, stub)
    assert verdict.status == NOT_STARTED and "check.hint" in repr(verdict)


@pytest.mark.parametrize(("task", "i"), PAIRS, ids=[f"{t.name} {i}" for t, i in PAIRS])
def test_each_mistake_is_caught_with_its_own_diagnosis(task, i):
    verdict = climb(task, task.mistakes[i].answer)
    assert verdict.status == WRONG
    assert ("likely", task.mistakes[i].diagnosis) in verdict.lines, verdict


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_task_is_whole(task):
    assert len(task.mistakes) >= 4 and len(task.hints) == 3
    assert 1 <= task.difficulty <= 5 and 1 <= task.chapter <= 12 and task.minutes >= 5
    assert len({m.diagnosis for m in task.mistakes}) == len(task.mistakes)


def test_a_wrong_name_is_told_the_right_one():
    with pytest.raises(MinidalleError, match="do you mean 'causal_mask'"):
        check.causal_masks(None)
