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

import numpy as np
import torch
from torch import Tensor

from minidalle.lab.figures import matrix

PASSED, NOT_STARTED, WRONG = "passed", "not started", "not yet"
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
        _has_nan(output)  # a list that contains itself has no end
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
        output = answer(*mine)
        found = [None] * len(leaves)
        if isinstance(output, Tensor) and output.requires_grad:
            weights = torch.arange(output.numel()).cos().view_as(output)  # a loss like any other
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
    odd = [isinstance(g.output, Raised) or _has_nan(g.output) for g in got]
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
        return _has_nan(a.output) or equal(a.gradients, b.gradients, 10 * task.tolerance)
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
    if _has_nan(got.output) and not _has_nan(right.output):
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


def _has_nan(value) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_nan, value))
    if isinstance(value, Tensor):
        return bool(value.isnan().any())
    return isinstance(value, float) and value != value


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
    off = _apart(got, right, task.tolerance)
    differs = ("differs", f"in {int(off.sum())} of {off.numel()} entries")
    if got.ndim != 2 or got.numel() < 9:
        return [("got", show(got)), ("expected", show(right)), differs], {}
    row = int(off.any(1).int().argmax())  # in words, the first that is off is enough
    at = f"{task.axes[1]} {row}: "
    lines = [("got", at + show(got[row])), ("expected", at + show(right[row])), differs]
    return lines, {"yours": got, "expected": right, "where they differ": off}


# --- Values: their kind, their equality, their look -----------------------------------------------


def normalise(value, like):
    """A value in the type of another, where numpy, lists, tuples and scalars say the same."""
    if isinstance(value, np.ndarray | np.generic):
        value = torch.as_tensor(value) if value.dtype.kind in "biuf" else value.tolist()
    if isinstance(like, Tensor) and isinstance(value, list | tuple | range):
        return _stacked(list(value), like)
    if isinstance(like, list | tuple):
        if isinstance(value, Tensor) and value.ndim:
            value = list(value)
        if isinstance(value, list | tuple):
            inside = [*like, *[None] * len(value)]
            value = type(like)(map(normalise, value, inside))
    if isinstance(like, dict) and isinstance(value, dict):
        return {k: normalise(v, like.get(k)) for k, v in value.items()}
    if isinstance(like, bool | int | float) and isinstance(value, Tensor) and not value.ndim:
        return value.item()
    return value


def _stacked(value: list, like: Tensor):
    """Nested lists of numbers, or of tensors, as one tensor; as they are where they make none."""
    try:
        if not value:
            return like.new_zeros(0)
        return torch.stack([
            _stacked(list(v), like) if isinstance(v, list | tuple | range) else torch.as_tensor(v)
            for v in value
        ])  # fmt: skip
    except (TypeError, ValueError, RuntimeError):
        return value


def kind(value) -> str:
    """Type and shape in words, by which two values may be compared at all."""
    if isinstance(value, Tensor):
        if value.ndim == 0 and value.dtype != torch.bool:
            return "a number"
        sort = "an integer"
        if value.dtype == torch.bool or value.is_floating_point():
            sort = "a bool" if value.dtype == torch.bool else "a float"
        return f"{sort} tensor of shape {tuple(value.shape)}"
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, dict):
        return "a dict"  # a Counter is one, and so is a defaultdict
    if isinstance(value, tuple):
        return f"{len(value)} values: {', '.join(map(kind, value))}"
    return f"a {type(value).__name__}"


def _apart(a: Tensor, b: Tensor, tolerance: float) -> Tensor:
    if not (a.is_floating_point() or b.is_floating_point()):
        return a != b
    return ~torch.isclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def equal(a, b, tolerance: float) -> bool:
    """Whether two outputs are the same, numbers within a tolerance."""
    if isinstance(a, Raised) or isinstance(b, Raised):
        return isinstance(a, Raised) and isinstance(b, Raised) and a == b
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        try:
            a, b = torch.as_tensor(a), torch.as_tensor(b)
        except (TypeError, ValueError, RuntimeError):
            return False
        return a.shape == b.shape and not _apart(a, b, tolerance).any()
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k], tolerance) for k in a)
    if isinstance(a, int) and isinstance(b, int):
        return a == b and type(a) is type(b)
    numbers = (int, float)
    if isinstance(a, numbers) and isinstance(b, numbers):
        return abs(a - b) <= tolerance * (1 + abs(b)) or a == b or (a != a and b != b)
    return type(a) is type(b) and a == b


def show(value, most: int = 60) -> str:
    """A short text of a value; of a large tensor its shape and its first numbers."""
    if isinstance(value, Tensor):
        if value.dtype == torch.bool and value.ndim in (1, 2) and value.numel() <= 144:  # a mask
            rows = value.tolist() if value.ndim == 2 else [value.tolist()]
            return " ".join("".join("01"[seen] for seen in row) for row in rows)
        if value.numel() > 24:
            first = ", ".join(f"{v:.4g}" for v in value.flatten()[:6].tolist())
            return f"{kind(value)}: {first}, …"
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        inside = ", ".join(show(v, most) for v in value[:most])
        inside += ", …" if len(value) > most else ""
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return repr(value)
