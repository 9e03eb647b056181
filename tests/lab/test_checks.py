"""Checks of the exercises: right answers pass, stubs are not started, wrong ones are diagnosed."""

import time

import pytest
import torch

from minidalle.errors import MinidalleError
from minidalle.lab.checks import TASKS, check
from minidalle.lab.checks.engine import NOT_STARTED, PASSED, WRONG, check_answer
from tests.lab import alternatives

PAIRS = [(task, i) for task in TASKS.values() for i in range(len(task.mistakes))]


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_the_right_answer_passes(task):
    assert check_answer(task, task.answer).status == PASSED


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_another_right_answer_passes(task):
    """Catches a check that wants one way of writing it."""
    verdict = check_answer(task, getattr(alternatives, task.name))
    assert verdict.passed, verdict


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_stub_is_not_started(task):
    def stub(*arguments):
        raise NotImplementedError

    verdict = check_answer(task, stub)
    assert verdict.status == NOT_STARTED and "check.hint" in repr(verdict)


@pytest.mark.parametrize(("task", "i"), PAIRS, ids=[f"{t.name} {i}" for t, i in PAIRS])
def test_each_mistake_is_caught_with_its_own_diagnosis(task, i):
    verdict = check_answer(task, task.mistakes[i].answer)
    assert verdict.status == WRONG
    assert ("likely", task.mistakes[i].diagnosis) in verdict.lines, verdict


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_task_is_whole(task):
    assert len(task.mistakes) >= 4 and len(task.hints) == 3
    assert 1 <= task.difficulty <= 5 and task.chapter >= 1 and task.minutes >= 5
    assert len({m.diagnosis for m in task.mistakes}) == len(task.mistakes)


def test_there_are_three_to_seven_tasks_a_chapter():
    chapters = [task.chapter for task in TASKS.values()]
    assert len(TASKS) >= 45 and set(chapters) >= set(range(1, 13))
    assert all(3 <= chapters.count(chapter) <= 7 for chapter in chapters)


def test_hints_come_one_by_one_and_the_last_stays():
    fresh = type(check)()
    told = [fresh.hint("causal_mask") for _ in range(4)]
    assert [t[:11] for t in told] == ["hint 1 of 3", "hint 2 of 3", "hint 3 of 3", "hint 3 of 3"]
    assert told[2] == told[3] and len(set(told)) == 3


def test_what_an_answer_raises_is_told_with_its_input():
    verdict = check.place(lambda i, grid: 1 // 0)
    assert verdict.status == WRONG
    assert "it raised ZeroDivisionError" in repr(verdict) and "i = 0, grid = 1" in repr(verdict)


def test_what_an_answer_raises_is_told_with_the_students_own_line():
    """Catches a line of the library that the student never wrote."""

    def top_k(logits, k):
        wrong = k + 100
        return logits.topk(wrong).values

    first = top_k.__code__.co_firstlineno
    problem = dict(check.top_k(top_k).lines)["problem"]
    assert problem.startswith("it raised RuntimeError")
    assert problem.endswith(f"(line {first + 2}: return logits.topk(wrong).values)")


def test_the_smallest_input_that_fails_is_shown_whatever_is_wrong_with_it():
    """Catches a broken rule of a large input that hides a wrong value of a small one."""

    def kl_to_uniform(logits):
        return logits.sum() * 0 + (0.5 if len(logits) == 1 else -1)

    verdict = dict(check.kl_to_uniform(kl_to_uniform).lines)
    assert verdict["problem"] == "another value than expected"
    assert verdict["input"] == "logits = [[0, 0]]"


def test_an_answer_without_a_gradient_is_told_which_argument_lacks_it():
    verdict = check.gaussian_kl(lambda mu, v: TASKS["gaussian_kl"].answer(mu, v.detach()))
    assert "no gradient reaches `ln_var`" in repr(verdict)


def test_a_gradient_is_asked_for_where_a_cell_has_switched_gradients_off():
    with torch.no_grad():
        assert check.gaussian_kl(TASKS["gaussian_kl"].answer).passed
        assert not check.gaussian_kl(
            lambda mu, v: TASKS["gaussian_kl"].answer(mu, v).detach()
        ).passed


def test_an_answer_that_cannot_be_trained_is_told_in_words():
    verdict = check.elbo(lambda ll, kl, beta: torch.tensor((ll - beta * kl).numpy().mean()))
    assert "in training it raised RuntimeError" in repr(verdict)


def test_a_mistake_is_diagnosed_where_another_input_gives_nan():
    """A student who forgets ln K and takes ln 0 as well is told of both in turn."""

    def kl_to_uniform(logits):
        q = logits.softmax(-1)
        return (q * q.log()).sum(-1).mean()

    assert "ln K is missing" in repr(check.kl_to_uniform(kl_to_uniform))


def test_an_answer_that_forgets_to_return():
    assert "is there a return?" in repr(check.place(lambda i, grid: None))


def test_an_answer_that_changes_its_argument_is_told():
    def sloppy(ids, pair, new):
        ids.append(new)
        return ids

    assert "changed its argument" in repr(check.replace_pair(sloppy))


def test_a_large_mask_is_shown_as_a_picture():
    verdict = check.causal_mask(lambda n: torch.ones(n, n, dtype=torch.bool).tril(int(n > 3)))
    assert set(verdict.pictures) == {"yours", "expected", "where they differ"}
    assert "<img" in verdict._repr_html_() and "✗" in verdict._repr_html_()


def test_a_verdict_can_be_found_by_a_program():
    bundle = check.place(divmod)._repr_mimebundle_()
    assert bundle["application/vnd.minidalle.check+json"] == {
        "task": "place", "chapter": 7, "status": PASSED,
    }  # fmt: skip


def test_checks_are_quick():
    """Two seconds a check is what a student will wait; all of them together take less."""
    began = time.perf_counter()
    for task in TASKS.values():
        check_answer(task, task.answer)
    assert time.perf_counter() - began < 2 * len(TASKS) / 10


def test_a_wrong_name_is_told_the_right_one():
    with pytest.raises(MinidalleError, match="do you mean 'causal_mask'"):
        check.causal_masks(None)
