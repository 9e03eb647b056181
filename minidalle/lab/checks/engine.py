"""How an answer is checked, level by level, and what is said about the first that fails.

    runs  →  type and shape  →  properties  →  equal to the package's own, on inputs of many sizes

Inputs come smallest first, so that the first one that fails is the smallest. The levels say *that*
an answer is wrong; the mistakes of a task say *why*: each is a wrong answer that people give, and
where the student's answer does the same as one of them on every input, its diagnosis is shown.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

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
    probe: Callable[[Callable], Callable] = lambda answer: answer  # what is run in its place: an
    # answer may have to be trained, differentiated or called twice to show what it does


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


@dataclass(frozen=True)
class Raised:
    """In place of an output, what an answer raised."""

    error: str


def check_answer(task: Task, answer: Callable) -> Verdict:
    """Check an answer level by level; stop at the first that fails."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cases = task.cases()
        got = []
        for arguments in cases:
            output = _call(task.probe(answer), arguments)
            if isinstance(output, NotImplementedError):
                return Verdict(task, NOT_STARTED, (("begin", f"hints: check.hint({task.name!r})"),))
            got.append(output)
        expected = [_call(task.probe(task.answer), arguments) for arguments in cases]
        why = _diagnosis(task, cases, got)
    # A rung is tried on all inputs before the next: what does not run has no shape.
    for rung in (_runs, _has_shape, _has_properties, _is_equal):
        for arguments, output, right in zip(cases, got, expected, strict=True):
            if said := rung(task, arguments, output, right):
                return _wrong(task, arguments, output, right, said, why)
    return Verdict(task, PASSED)


def _call(answer: Callable, arguments: tuple):
    mine = copy.deepcopy(arguments)
    try:
        output = answer(*mine)
    except NotImplementedError as error:
        return error
    except Exception as error:  # whatever a student's code raises is shown, not raised
        return Raised(f"it raised {type(error).__name__}: {error}")
    same = equal(mine, arguments, 0)
    return output if same else Raised("your function changed its argument: work on a copy")


def _diagnosis(task: Task, cases: list[tuple], got: list) -> str | None:
    for mistake in task.mistakes:
        theirs = (_call(task.probe(mistake.answer), arguments) for arguments in cases)
        if all(equal(a, b, task.tolerance) for a, b in zip(got, theirs, strict=True)):
            return mistake.diagnosis
    return None


def _runs(task: Task, arguments: tuple, got, right) -> str | None:
    return got.error if isinstance(got, Raised) and got != right else None


def _has_shape(task: Task, arguments: tuple, got, right) -> str | None:
    if got is None:
        return "it returned None: is there a return?"
    a, b = kind(got), kind(right)
    return f"it returned {a}, and {b} is wanted" if a != b else None


def _has_properties(task: Task, arguments: tuple, got, right) -> str | None:
    if _has_nan(got) and not _has_nan(right):
        return "it returned nan"
    for wanted in task.properties:
        if not wanted.holds(got, *arguments):
            return f"a rule is broken: {wanted.claim}"
    return None


def _has_nan(value) -> bool:
    return isinstance(value, Tensor) and bool(value.isnan().any())


def _is_equal(task: Task, arguments: tuple, got, right) -> str | None:
    return None if equal(got, right, task.tolerance) else "another value than expected"


def _wrong(task: Task, arguments: tuple, got, right, said: str, why: str | None) -> Verdict:
    names = inspect.signature(task.probe(task.answer)).parameters
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
