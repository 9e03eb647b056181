"""Values that an answer returns: their type, their equality, their look.

An answer may come in numpy, in a list where a tensor is wanted, in a tuple where a list is: what
says the same is the same (`normalise`). `kind` is what must agree before two values are compared.
"""

import numpy as np
import torch
from torch import Tensor


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


def apart(a: Tensor, b: Tensor, tolerance: float) -> Tensor:
    """Where two tensors of one shape differ."""
    if not (a.is_floating_point() or b.is_floating_point()):
        return a != b
    return ~torch.isclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


def equal(a, b, tolerance: float) -> bool:
    """Whether two outputs are the same, numbers within a tolerance."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        try:
            a, b = torch.as_tensor(a), torch.as_tensor(b)
        except (TypeError, ValueError, RuntimeError):
            return False
        return a.shape == b.shape and not apart(a, b, tolerance).any()
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


def has_nan(value) -> bool:
    """Whether nan is in it anywhere."""
    if isinstance(value, list | tuple):
        return any(map(has_nan, value))
    if isinstance(value, Tensor):
        return bool(value.isnan().any())
    return isinstance(value, float) and value != value
