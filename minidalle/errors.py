"""The one exception that a user can fix, and the check of configs that raises it."""

import math
import types
import typing
from typing import Any


class MinidalleError(Exception):
    """An error the user can fix: one line with the cause, the file and the remedy.

    The command line prints it without a traceback and exits with status 2.
    """


def check_fields(config: Any, **bounds: tuple[float, float]) -> None:
    """Check a config dataclass, which may come from a stranger's file: every field has its declared
    type, every number is finite, and each field in `bounds` lies within (lowest, highest).

    Raises MinidalleError, naming the field and what it must be.
    """
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not _has_type(value, kind):
            raise MinidalleError(f"{name} must be {_describe(kind)}, got {value!r}")
        low, high = bounds.get(name, (-math.inf, math.inf))
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not low <= number <= high:
                raise MinidalleError(f"{name} must be from {low:g} to {high:g}, got {number!r}")


def _has_type(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_has_type(value, choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        inner, *rest = typing.get_args(kind)
        if not isinstance(value, tuple) or not value:
            return False
        return all(_has_type(v, inner) for v in value) and (
            ... in rest or len(value) == 1 + len(rest)
        )
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a finite number", str: "text", type(None): "null"}
    if isinstance(kind, types.UnionType):
        return " or ".join(_describe(choice) for choice in typing.get_args(kind))
    return names.get(kind, "a list of whole numbers" if "int" in str(kind) else "a list of numbers")
