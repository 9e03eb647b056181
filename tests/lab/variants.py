"""Machine-made variants of the right answers: each is one small change away from a solution.

    python -m tests.lab.variants            how many of each task's variants its check accepts
    python -m tests.lab.variants attend     and those of one task, line by line
    python -m tests.lab.variants --accept   writes those of the solutions into the list of the tests

A variant changes an operator, a comparison, a constant, a name, a function, an axis or a slice;
leaves out a call, an operand, a keyword or a line; or cuts the gradient, rounds, or casts. Those
that a check accepts are either as right as the solution or a hole in the check.
"""

import ast
import copy
import inspect
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import nbformat
import torch

from minidalle.lab.checks import TASKS
from minidalle.lab.checks.engine import Outcome, Task, examples, first_failure, run
from minidalle.lab.exercises import FOLDER
from tests.lab import alternatives

OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
OPPOSITES = {
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
NAMES = (
    ("any", "all"), ("min", "max"), ("argmin", "argmax"), ("sum", "mean", "prod", "amax"),
    ("log", "log2", "log10", "log1p", "exp"), ("square", "abs", "sqrt"), ("scatter", "gather"),
    ("softmax", "log_softmax", "sigmoid"), ("logit", "log", "sigmoid"), ("cos", "sin"),
    ("cumsum", "cumprod"), ("tril", "triu"), ("indices", "values"), ("cat", "stack"),
    ("kind", "colour", "size"), ("eigvals", "svdvals"), ("trace", "det", "sum"),
    ("cov", "corrcoef"), ("sort", "argsort"), ("float", "double", "half", "int"),
    ("empty_like", "zeros_like"), ("full_like", "zeros_like", "ones_like"),
    ("append", "extend"), ("zip", "product"), ("pairwise", "combinations"), ("items", "keys"),
)  # fmt: skip
ENDINGS = (
    "{}.detach()", "torch.tensor(float({}))", "{} + 0.001", "1.001 * {}", "-{}",
    "{}.half().float()", "{}.int()", "{}.flip(0)", "{}[0]", "round({}, 3)", "abs({})",
    "min({}, 0.95)", "not {}", "{}[::-1]", "{}[:-1]", "sorted({})", "{}.mean(0)",
)  # fmt: skip
# No change but to the eye: the length of x + 1 is that of x.
SAME = re.compile(r"len\(\w+ [+-] 1\)|\(\w+ [+-] 1\)\.(shape|dtype)|_like\(\w+ [+-] 1|--1\b")


@cache
def solutions() -> dict[str, tuple[str, dict]]:
    """The source of every solution, and the names that its notebook has imported."""
    found = {}
    for path in sorted((Path(FOLDER) / "solutions").glob("*.ipynb")):
        cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        space: dict = {}
        exec("\n".join(line for line in cells[0].splitlines() if "import" in line), space)
        for source in cells:
            if "### BEGIN SOLUTION" in source:
                exec(source, space)
                name = re.match(r"def (\w+)", source)[1]
                found[name] = (source, space)
    return found


def variants(source: str, trained: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Every variant of a function: the line that has changed, and its whole source."""
    tree = ast.parse(source).body[0]
    if ast.get_docstring(tree):
        tree.body = tree.body[1:]
    whole = ast.unparse(tree)
    seen, lines = {whole}, whole.splitlines()
    for changed in _changed(tree, trained):
        try:
            text = ast.unparse(ast.fix_missing_locations(changed))
        except (ValueError, AttributeError):
            continue
        if text not in seen and not SAME.search(text):
            seen.add(text)
            new = text.splitlines()
            same = len(new) == len(lines)
            line = [n for n, o in zip(new, lines, strict=False) if n != o] if same else new[1:]
            yield " ⏎ ".join(part.strip() for part in line), text


def _changed(tree: ast.FunctionDef, trained: Sequence[str]) -> Iterator[ast.FunctionDef]:
    nodes = list(ast.walk(tree))
    for index, node in enumerate(nodes):
        if isinstance(node, ast.arguments | ast.arg):
            continue
        for new in _replaced(node, tree, trained):
            fresh = copy.deepcopy(tree)
            old = list(ast.walk(fresh))[index]
            yield _Put(old, new).visit(fresh)
    for i in range(len(tree.body)):
        if len(tree.body) > 1:
            fresh = copy.deepcopy(tree)
            del fresh.body[i]
            yield fresh
    for name in trained:
        fresh = copy.deepcopy(tree)
        fresh.body.insert(0, ast.parse(f"{name} = {name}.detach()").body[0])
        yield fresh


class _Put(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _replaced(node: ast.AST, tree: ast.FunctionDef, trained: Sequence) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
        yield from (ast.BinOp(node.left, op(), node.right) for op in OPERATORS)
        if not isinstance(node.op, ast.Add | ast.Mult):  # a sum is the same either way round
            yield ast.BinOp(node.right, node.op, node.left)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        other = OPPOSITES.get(type(node.ops[0]))
        for op in (other,) if other else ORDERS:
            yield ast.Compare(node.left, [op()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield from node.values
        yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    elif isinstance(node, ast.IfExp | ast.If):
        twin = copy.deepcopy(node)
        twin.test = ast.UnaryOp(ast.Not(), node.test)
        yield twin
        yield ast.Pass() if isinstance(node, ast.If) else node.body
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, _constants(node.value))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        known = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id != node.id
                 and isinstance(n.ctx, ast.Store)} | {a.arg for a in tree.args.args}  # fmt: skip
        if node.id in known:
            yield from (ast.Name(n, ast.Load()) for n in sorted(known - {node.id}))
            yield from (ast.Constant(1), ast.Constant(2), ast.Constant(0.125))
            yield from (ast.BinOp(node, op(), ast.Constant(1)) for op in (ast.Add, ast.Sub))
        yield from (ast.Name(n, ast.Load()) for n in _likes(node.id))
    elif isinstance(node, ast.Attribute):
        yield node.value
        yield from (ast.Attribute(node.value, n, node.ctx) for n in _likes(node.attr))
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            yield node.func.value
        yield from node.args
        for part in ("args", "keywords"):
            for i in range(len(getattr(node, part))):
                twin = copy.deepcopy(node)
                del getattr(twin, part)[i]
                yield twin
        if len(node.args) > 1:
            yield ast.Call(node.func, node.args[::-1], node.keywords)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield node.value
    elif isinstance(node, ast.Slice):
        yield ast.Slice(node.upper, node.lower, node.step)
        yield ast.Slice(ast.Constant(1), node.upper, node.step)
        yield ast.Slice(node.lower, node.upper, ast.Constant(2))
    elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
        yield ast.Tuple(node.elts[::-1], node.ctx)
    elif isinstance(node, ast.Return) and node.value:
        for ending in ENDINGS if trained else ENDINGS[1:]:
            text = ending.format(f"({ast.unparse(node.value)})")
            yield ast.parse(f"return {text}").body[0]


def _constants(value) -> list:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1, 2 * value, -value, 0.5 * value, 1.01 * value]
    if isinstance(value, str) and "->" in value:
        left, right = value.split("->")
        letters = re.findall(r"\w", right)
        return [f"{left}->{right.translate(str.maketrans(a + b, b + a))}"
                for i, a in enumerate(letters) for b in letters[:i]]  # fmt: skip
    return [f"{value}x", ""] if isinstance(value, str) else []


def _likes(name: str) -> list[str]:
    return [n for group in NAMES if name in group for n in group if n != name]


# --- Their verdicts -------------------------------------------------------------------------------


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def accepts(task: Task, answer, cases: list[tuple], expected: list[Outcome]) -> bool:
    """Whether a check accepts an answer; as `check_answer`, without a diagnosis."""
    got = []
    for case in zip(cases, expected, strict=True):
        outcome = run(task, answer, *case)
        if isinstance(outcome.output, NotImplementedError):
            return False
        if first_failure(task, [case[0]], [outcome], [case[1]]):
            return False
        got.append(outcome)
    return True


def survivors(name: str, source: str, space: dict) -> tuple[int, list[str]]:
    """How many variants there are, and the changed lines of those that a check accepts."""
    task, count, accepted = TASKS[name], 0, []
    cases, expected = examples(task)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for line, text in variants(source, task.trained):
            count += 1
            own = dict(space)
            try:
                with _limit(2):
                    exec(compile(text, "variant", "exec"), own)
                    if accepts(task, own[name], cases, expected):
                        accepted.append(line)
            except (SyntaxError, TimeoutError):
                continue
    return count, accepted


def accept() -> None:
    """Write the list of accepted variants, which is then to be read."""
    blocks = (
        f"{n}\n" + "".join(f"    {x}\n" for x in survivors(n, *solutions()[n])[1]) for n in TASKS
    )
    (Path(__file__).parent / "accepted_variants.txt").write_text("".join(blocks), encoding="utf-8")


def main() -> int:
    if sys.argv[1:] == ["--accept"]:
        accept()
        return 0
    total, left = 0, 0
    for name in sys.argv[1:] or TASKS:
        source, space = solutions()[name]
        other = inspect.getsource(getattr(alternatives, name)), vars(alternatives)
        for label, place in (("solution", (source, space)), ("alternative", other)):
            count, accepted = survivors(name, *place)
            total, left = total + count, left + len(accepted)
            print(f"{name:20}{label:12}{count:5} variants {len(accepted):4} accepted", flush=True)
            print("".join(f"    {line}\n" for line in accepted), end="")
    print(f"{total} variants, {left} accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
