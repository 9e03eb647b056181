"""How an answer is checked, level by level, and what is said about the first that fails.

    runs  →  type and shape  →  properties, and equal to the package's own  →  its gradient

Inputs come smallest first, so that the first one that fails is the smallest. The levels say *that*
an answer is wrong; the mistakes of a task say *why*: each is a wrong answer that people give, and
where the student's answer does the same as one of them on every input, its diagnosis is shown.
"""

import copy
import inspect
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

import torch
from torch import Tensor

from minidalle.lab.checks.values import apart, equal, has_nan, kind, normalise, show
from minidalle.lab.figures import matrix

PASSED, NOT_STARTED, WRONG = "passed", "not started", "not yet"
GRADED = "MINIDALLE_GRADED"  # set in the kernels of `minidalle grade`
MIME = "application/vnd.minidalle.check+json"  # how `minidalle grade` finds a verdict


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, and what those who give it have missed."""

    diagnosis: str
    answer: Callable


@dataclass(frozen=True)
class Property:
    """What must be true of every output, in words and as a test of (output, *arguments)."""

    claim: str
    holds: Callable[..., bool]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One exercise: what is asked, how it is checked, how a student is helped."""

    name: str
    chapter: int
    difficulty: int  # 1 … 5
    minutes: int
    answer: Callable  # the right one, as a rule the package's own
    cases: Callable[[], list[tuple]]  # arguments, smallest first; chance is seeded for it
    mistakes: Sequence[Mistake]
    hints: tuple[str, str, str]  # from a nudge to nearly all
    properties: Sequence[Property] = ()
    axes: tuple[str, str] = ("column", "row")  # of an answer that is a matrix: across, down
    tolerance: float = 1e-5
    trained: tuple[str, ...] = ()  # arguments that a gradient must reach
    compared: Callable = lambda output, *arguments: output  # of an output, where several are right


@dataclass(frozen=True)
class Verdict:
    """What a check says of an answer; shows itself in a notebook."""

    task: Task
    status: str
    lines: tuple[tuple[str, str], ...] = ()  # (what, text): input, got, expected, likely …
    pictures: dict = field(default_factory=dict)  # name → matrix, where one says it better

    @property
    def passed(self) -> bool:
        return self.status == PASSED

    def __repr__(self) -> str:
        mark = {PASSED: "✓", NOT_STARTED: "○", WRONG: "✗"}[self.status]
        lines = [f"{mark} {self.task.name}: {self.status}"]
        return "\n".join(lines + [f"  {what + ':':10} {text}" for what, text in self.lines])

    def _repr_html_(self) -> str:
        colour = {PASSED: "#009E73", NOT_STARTED: "#8a8e9c", WRONG: "#D55E00"}[self.status]
        html = (
            f'<div style="border-left:4px solid {colour};padding:4px 12px">'
            f'<pre style="margin:0;white-space:pre-wrap">{escape(repr(self))}</pre></div>'
        )
        if self.pictures:
            html += matrix(self.pictures, self.task.axes, alt=repr(self), side=2.2)._repr_html_()
        return html

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        facts = {"task": self.task.name, "chapter": self.task.chapter, "status": self.status}
        return {"text/plain": repr(self), "text/html": self._repr_html_(), MIME: facts}


# --- Checking -------------------------------------------------------------------------------------

EXTREME = 50.0  # above it a value must still be right; a gradient may underflow


@dataclass(frozen=True)
class Raised:
    """In place of an output, what an answer raised."""

    error: str
    where: str = field(default="", compare=False)  # the line of the student's code


@dataclass(frozen=True)
class Outcome:
    """An output, and the gradients of the arguments that are trained (Raised where it failed)."""

    output: object
    gradients: dict[str, Tensor] | Raised = field(default_factory=dict)


def check_answer(task: Task, answer: Callable) -> Verdict:
    """Check an answer level by level; stop at the first that fails."""
    cases, expected = examples(task)
    with torch.random.fork_rng(devices=[]):  # whatever an answer draws, the notebook goes on alike
        got = [run(task, answer, *case) for case in zip(cases, expected, strict=True)]
    if any(isinstance(outcome.output, NotImplementedError) for outcome in got):
        return Verdict(task, NOT_STARTED, (("begin", f"hints: check.hint({task.name!r})"),))
    if failed := first_failure(task, cases, got, expected):
        why = _diagnosis(task, cases, got, expected)
        return _wrong(task, *failed, why)
    return Verdict(task, PASSED)


def examples(task: Task) -> tuple[list[tuple], list[Outcome]]:
    """The inputs of a task, smallest first, and what the right answer makes of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cases = sorted(task.cases(), key=_size)
    return cases, [run(task, task.answer, arguments) for arguments in cases]


def _size(value) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 1


def run(task: Task, answer: Callable, arguments: tuple, right: Outcome | None = None) -> Outcome:
    """What an answer makes of an input, in the types of the right outcome."""
    output = _call(answer, arguments)
    if right is not None:
        output = normalise(output, right.output)
    moderate = all(a.abs().max() < EXTREME for a in _trained(task, arguments).values() if a.numel())
    is_run = not isinstance(output, Raised | NotImplementedError)
    return Outcome(output, _gradients(task, answer, arguments) if is_run and moderate else {})


def _call(answer: Callable, arguments: tuple):
    mine = copy.deepcopy(arguments)
    try:
        with warnings.catch_warnings():  # without its dim, right by chance
            warnings.filterwarnings("error", message="Implicit dimension choice")
            output = answer(*mine)
        has_nan(output)  # a list that contains itself has no end
    except NotImplementedError as error:
        return error
    except Exception as error:  # whatever a student's code raises is shown, not raised
        return _raised(answer, error)
    same = equal(mine, arguments, 0)
    return output if same else Raised("your function changed its argument: work on a copy")


def _raised(answer: Callable, error: Exception) -> Raised:
    """An error, with the last line of the student's own code that it passed."""
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    where = f" (line {lines[-1].lineno}: {lines[-1].line})" if lines else ""
    return Raised(f"it raised {type(error).__name__}: {error}", where)


def _trained(task: Task, arguments: tuple) -> dict[str, Tensor]:
    named = zip(inspect.signature(task.answer).parameters, arguments, strict=False)
    return {name: a for name, a in named if name in task.trained and isinstance(a, Tensor)}


def _gradients(task: Task, answer: Callable, arguments: tuple) -> dict[str, Tensor] | Raised:
    """The gradient of each trained argument; zero where none reaches it."""
    mine = copy.deepcopy(arguments)
    leaves = {name: a.requires_grad_() for name, a in _trained(task, mine).items()}
    if not leaves:
        return {}
    try:
        with torch.enable_grad():  # a cell may have switched it off
            output = answer(*mine)
            found = [None] * len(leaves)
            if isinstance(output, Tensor) and output.requires_grad:
                weights = torch.arange(output.numel()).cos().view_as(output)  # any loss will do
                total = (output * weights).sum()
                found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    except Exception as error:
        return _raised(answer, error)
    zero = {name: torch.zeros_like(a) for name, a in leaves.items()}
    return {n: zero[n] if g is None else g for n, g in zip(leaves, found, strict=True)}


def first_failure(task: Task, cases: list, got: list, expected: list) -> tuple | None:
    """Of the first rung that fails its smallest input, the two outcomes, and what is wrong."""
    # A rung is tried on all inputs before the next: what does not run has no shape.
    for rung in RUNGS:
        for arguments, mine, right in zip(cases, got, expected, strict=True):
            if said := rung(task, arguments, mine, right):
                return arguments, mine.output, right.output, said
    return None


def _diagnosis(task: Task, cases: list, got: list, expected: list) -> str | None:
    """The first mistake that does the same on all inputs; else on those that give no nan."""
    odd = [isinstance(g.output, Raised) or has_nan(g.output) for g in got]
    clear = [
        not o and not _passes(task, *case)
        for o, *case in zip(odd, cases, got, expected, strict=True)
    ]
    likely = None
    for mistake in task.mistakes:
        theirs = [run(task, mistake.answer, *case) for case in zip(cases, expected, strict=True)]
        same = [_alike(task, *case) for case in zip(cases, got, theirs, expected, strict=True)]
        if all(same):
            return mistake.diagnosis
        if any(clear) and all(s or o for s, o in zip(same, odd, strict=True)):
            likely = likely or mistake.diagnosis
    return likely


def _passes(task: Task, arguments: tuple, got: Outcome, right: Outcome) -> bool:
    return not any(rung(task, arguments, got, right) for rung in RUNGS)


def _alike(task: Task, arguments: tuple, a: Outcome, b: Outcome, right: Outcome) -> bool:
    """Whether two answers do the same; where several outputs are right, all of these are."""
    if isinstance(a.output, Raised) or isinstance(b.output, Raised):
        return a.output == b.output
    if kind(a.output) == kind(b.output) and equal(a.output, b.output, task.tolerance):
        return has_nan(a.output) or equal(a.gradients, b.gradients, 10 * task.tolerance)
    return all(_passes(task, arguments, outcome, right) for outcome in (a, b))


def _same_value(task: Task, arguments: tuple, a, b) -> bool:
    if equal(a, b, task.tolerance):
        return True
    try:
        a, b = (task.compared(output, *arguments) for output in (a, b))
    except Exception:  # an output of another form: it differs
        return False
    return equal(a, b, task.tolerance)


def _runs(task: Task, arguments: tuple, got: Outcome, right: Outcome) -> str | None:
    return got.output.error + got.output.where if isinstance(got.output, Raised) else None


def _has_shape(task: Task, arguments: tuple, got: Outcome, right: Outcome) -> str | None:
    if got.output is None:
        return "it returned None: is there a return?"
    a, b = kind(got.output), kind(right.output)
    return f"it returned {a}, and {b} is wanted" if a != b else None


def _has_value(task: Task, arguments: tuple, got: Outcome, right: Outcome) -> str | None:
    if has_nan(got.output) and not has_nan(right.output):
        return "it returned nan"
    for wanted in task.properties:
        if not _holds(wanted, got.output, arguments):
            return f"a rule is broken: {wanted.claim}"
    same = _same_value(task, arguments, got.output, right.output)
    return None if same else "another value than expected"


def _holds(wanted: Property, output, arguments: tuple) -> bool:
    try:
        return bool(wanted.holds(output, *arguments))
    except Exception:  # a list of other things than it should hold
        return False


def _has_gradient(task: Task, arguments: tuple, got: Outcome, right: Outcome) -> str | None:
    if isinstance(got.gradients, Raised):
        return f"in training {got.gradients.error}{got.gradients.where}"
    for name, gradient in right.gradients.items():
        if not equal(got.gradients[name], gradient, 10 * task.tolerance):
            if got.gradients[name].any():
                return f"the value is right, the gradient of `{name}` is not"
            return (
                f"the value is right, but no gradient reaches `{name}`: detach(), item() and"
                " torch.tensor(…) cut it off"
            )
    return None


RUNGS = (_runs, _has_shape, _has_value, _has_gradient)


def _wrong(task: Task, arguments: tuple, got, right, said: str, why: str | None) -> Verdict:
    names = inspect.signature(task.answer).parameters
    inputs = ", ".join(f"{n} = {show(a)}" for n, a in zip(names, arguments, strict=False))
    lines = [("problem", said), ("input", inputs)]
    compared, pictures = ([], {}) if isinstance(got, Raised) else _compare(task, got, right)
    lines += compared
    if why:
        lines.append(("likely", why))
    lines.append(("help", f"check.hint({task.name!r})"))
    return Verdict(task, WRONG, tuple(lines), pictures)


def _compare(task: Task, got, right) -> tuple[list[tuple[str, str]], dict]:
    """The value given and the value expected: lines, and pictures of a matrix."""
    tensors = isinstance(got, Tensor) and isinstance(right, Tensor)
    if not tensors or got.shape != right.shape or got.numel() == 1:
        return [("got", show(got)), ("expected", show(right))], {}
    off = apart(got, right, task.tolerance)
    differs = ("differs", f"in {int(off.sum())} of {off.numel()} entries")
    if got.ndim != 2 or got.numel() < 9:
        return [("got", show(got)), ("expected", show(right)), differs], {}
    row = int(off.any(1).int().argmax())  # in words, the first that is off is enough
    at = f"{task.axes[1]} {row}: "
    lines = [("got", at + show(got[row])), ("expected", at + show(right[row])), differs]
    return lines, {"yours": got, "expected": right, "where they differ": off}
