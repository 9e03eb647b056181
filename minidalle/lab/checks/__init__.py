"""Instant checks of the exercises.

    check.causal_mask(causal_mask)        ✓, ○ not started, or ✗ with the smallest failing input
    check.hint("causal_mask")             a nudge; asked again, a clearer one; and nearly all

Nothing here prints an answer, needs a network, or takes longer than two seconds.
"""

import difflib
import os
from collections import Counter
from collections.abc import Callable

from IPython.display import display

from minidalle.errors import MinidalleError
from minidalle.lab.checks import (
    ch01_world,
    ch02_autoencoder,
    ch03_quantize,
    ch04_dvae,
    ch05_tokens,
    ch06_attention,
    ch07_prior,
    ch08_training,
    ch09_sampling,
    ch10_contrast,
    ch11_rerank,
    ch12_measure,
    ch13_editing,
    ch14_real_pictures,
    ch15_overfitting,
    ch16_masked_codes,
    ch17_encoder_decoder,
    ch18_gan,
    ch19_unclip,
    ch20_responsible,
)
from minidalle.lab.checks.engine import GRADED, Mistake, Property, Task, Verdict, check_answer

CHAPTERS = (
    ch01_world,
    ch02_autoencoder,
    ch03_quantize,
    ch04_dvae,
    ch05_tokens,
    ch06_attention,
    ch07_prior,
    ch08_training,
    ch09_sampling,
    ch10_contrast,
    ch11_rerank,
    ch12_measure,
    ch13_editing,
    ch14_real_pictures,
    ch15_overfitting,
    ch16_masked_codes,
    ch17_encoder_decoder,
    ch18_gan,
    ch19_unclip,
    ch20_responsible,
)
TASKS: dict[str, Task] = {task.name: task for module in CHAPTERS for task in module.TASKS}


class Check:
    """`check.NAME(function)` for every task."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[[Callable], Verdict]:
        if name.startswith("_"):
            raise AttributeError(name)
        task = _task(name)

        def checked(answer: Callable) -> Verdict:
            verdict = check_answer(task, answer)
            if os.environ.get(GRADED):  # the grader counts what is shown, wherever the call stands
                display(verdict)
            return verdict

        return checked

    def hint(self, name: str) -> str:
        """The next hint of a task: three of them, from a nudge to nearly all."""
        task = _task(name)
        asked = self._asked[name]
        self._asked[name] = min(asked + 1, len(task.hints) - 1)
        return f"hint {asked + 1} of {len(task.hints)}: {task.hints[asked]}"

    def __dir__(self) -> list[str]:
        return [*TASKS, "hint"]


def _task(name: str) -> Task:
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        raise MinidalleError(
            f"no task {name!r}" + (f": do you mean {near[0]!r}?" if near else f" of {len(TASKS)}")
        )
    return TASKS[name]


check = Check()

__all__ = ["TASKS", "Mistake", "Property", "Task", "Verdict", "check"]
