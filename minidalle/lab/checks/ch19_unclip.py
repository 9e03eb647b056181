"""Chapter 19, unCLIP: the checks of its exercises."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from minidalle.baselines.denoisers import adaptive
from minidalle.baselines.flow import euler, path_point, velocity
from minidalle.lab.checks.engine import Mistake, Property, Task


def _beside(t: Tensor, x: Tensor) -> Tensor:
    """Times, B, as B 1 … 1."""
    return t.reshape(-1, *[1] * (x.ndim - 1))


# --- point_and_velocity ---------------------------------------------------------------------------


def point_and_velocity(x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return path_point(x, noise, t), x - noise


def _on_path(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.rand(shape[0])


def _mixed(weights, rate):
    """Another point, from its weights at t, and another velocity."""

    def answer(x: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        s = _beside(t, x)
        a, b = weights(s)
        x_t = a * noise + b * x
        return x_t, rate(x, noise, s, x_t)

    return answer


def _line(t: Tensor) -> tuple[Tensor, Tensor]:
    return 1 - t, t


POINT_AND_VELOCITY = Task(
    name="point_and_velocity", chapter=19, difficulty=2, minutes=10, answer=point_and_velocity,
    cases=lambda: [
        (torch.tensor([[2.0]]), torch.tensor([[-1.0]]), torch.tensor([0.25])),
        (torch.tensor([[2.0]]), torch.tensor([[-1.0]]), torch.tensor([1.0])),
        (torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[0.5, 0.0], [1.0, -2.0]]),
         torch.tensor([0.0, 0.5])),
        _on_path(3, 3), _on_path(2, 5), _on_path(2, 3, 4, 4), _on_path(4, 3, 2, 2),
    ],
    mistakes=(
        Mistake("Time runs from noise (t = 0) to data (t = 1); yours runs the other way.",
                _mixed(lambda t: (t, 1 - t), lambda x, e, t, x_t: x - e)),
        Mistake("The velocity points from the data to the noise: its sign is wrong.",
                _mixed(_line, lambda x, e, t, x_t: e - x)),
        Mistake("That is the way that is *left*, x − x_t. The velocity is the whole way in one"
                " unit of time: the same at every t.",
                _mixed(_line, lambda x, e, t, x_t: x - x_t)),
        Mistake("(x − x_t) / (1 − t) is 0 / 0 at t = 1. The path is straight, so its derivative is"
                " x − ε at every t.", _mixed(_line, lambda x, e, t, x_t: (x - x_t) / (1 - t))),
        Mistake("Those are the weights of a diffusion, whose *squares* sum to one. Here t and"
                " 1 − t do.", _mixed(lambda t: ((1 - t).sqrt(), t.sqrt()),
                                     lambda x, e, t, x_t: x - e)),
        Mistake("The velocity is multiplied by t: that is how far the point has come.",
                _mixed(_line, lambda x, e, t, x_t: t * (x - e))),
        Mistake("Each example has a time of its own: t, B, must stand beside the first axis,"
                " as B 1 … 1.",
                lambda x, noise, t: ((1 - t) * noise + t * x, x - noise)),
        Mistake("All examples get the time of the first one.",
                lambda x, noise, t: point_and_velocity(x, noise, t[:1].expand(len(t)))),
    ),
    hints=(
        "At t = 0 the point is the noise, at t = 1 the data, and in between on a straight line.",
        "(1 − t) ε + t x; its derivative by t does not contain t.",
        "t.reshape(-1, *[1] * (x.ndim - 1)) makes t fit; then return the point and x - noise.",
    ),
)  # fmt: skip


# --- flow_gaussian --------------------------------------------------------------------------------


def _posterior_mean(x_t: Tensor, t: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    t = t[:, None]
    return mean + t * std**2 / (t**2 * std**2 + (1 - t) ** 2) * (x_t - t * mean)


def flow_gaussian(noise: Tensor, mean: Tensor, std: Tensor, steps: int) -> Tensor:
    return euler(lambda x_t, t: _posterior_mean(x_t, t, mean, std), noise, steps)


def _stepped(guess=_posterior_mean, time=lambda i, n: i / n, rate=velocity, length=None, more=0):
    """Euler's method with one part changed: the guess, the times, the velocity, the step."""

    def answer(noise: Tensor, mean: Tensor, std: Tensor, steps: int) -> Tensor:
        x = noise
        for i in range(steps + more):
            t = torch.full((len(x),), float(time(i, steps)))
            x = x + rate(guess(x, t, mean, std), x, t) * (length or 1 / steps)
        return x

    return answer


def _cloud(n: int, d: int, steps: int) -> tuple[Tensor, Tensor, Tensor, int]:
    return torch.randn(n, d), torch.randn(d), 0.2 + torch.rand(d), steps


FLOW_GAUSSIAN = Task(
    name="flow_gaussian", chapter=19, difficulty=4, minutes=25, answer=flow_gaussian,
    cases=lambda: [
        (torch.tensor([[1.0]]), torch.tensor([0.0]), torch.tensor([0.5]), 2),
        (torch.tensor([[1.0]]), torch.tensor([3.0]), torch.tensor([0.5]), 1),
        _cloud(2, 1, 3), _cloud(2, 2, 2), _cloud(3, 2, 5), _cloud(4, 3, 10), _cloud(5, 4, 25),
    ],
    tolerance=1e-4,
    mistakes=(
        Mistake("mean + std · noise is where infinitely many steps end. Asked is Euler's method"
                " with as many as given: with one step, all points end at the mean.",
                lambda noise, mean, std, steps: mean + std * noise),
        Mistake("The guess does not look at x: with the mean alone, every point ends there.",
                _stepped(lambda x, t, mean, std: mean.expand_as(x))),
        Mistake("Variances add, and std is no variance: square it in the fraction.",
                _stepped(lambda x, t, mean, std: _posterior_mean(x, t, mean, std.sqrt()))),
        Mistake("The noise has the standard deviation 1 − t at time t, so its variance is"
                " (1 − t)².",
                _stepped(lambda x, t, mean, std: mean + t[:, None] * std**2 / (
                    t[:, None] ** 2 * std**2 + 1 - t[:, None]) * (x - t[:, None] * mean))),
        Mistake("At time t the mean of x_t is t · mean: take that away from x, not the mean.",
                _stepped(lambda x, t, mean, std: mean + t[:, None] * std**2 / (
                    t[:, None] ** 2 * std**2 + (1 - t[:, None]) ** 2) * (x - mean))),
        Mistake("The first step looks at time 0; yours looks at 1/n, one step late.",
                _stepped(time=lambda i, n: min((i + 1) / n, 1 - 1e-6))),
        Mistake("The velocity is the way that is left *divided by the time that is left*, 1 − t.",
                _stepped(rate=lambda guess, x, t: guess - x)),
        Mistake("One step covers 1/n of the time: divide by the number of steps.",
                _stepped(length=1.0)),
        Mistake("A step is missing.", _stepped(more=-1)),
        Mistake("That goes back: the velocity points from x to the guess.",
                _stepped(rate=lambda guess, x, t: (x - guess) / (1 - t[:, None]))),
    ),
    hints=(
        "For i = 0 … n − 1: t = i / n; guess the end; go 1/n along the velocity.",
        "The guess: mean + t std² / (t² std² + (1 − t)²) · (x − t mean). The velocity:"
        " (guess − x) / (1 − t).",
        "x = x + (guess - x) / (1 - t) / steps, in a loop, beginning with the noise; t is a float.",
    ),
)  # fmt: skip


# --- guided_velocity ------------------------------------------------------------------------------


def guided_velocity(
    cond: Tensor, uncond: Tensor, x_t: Tensor, t: Tensor, guidance: float
) -> Tensor:
    return velocity(uncond + guidance * (cond - uncond), x_t, t)


def _guided(scale=lambda c, u, g: u + g * (c - u), rest=lambda t: 1 - t):
    return lambda cond, uncond, x_t, t, guidance: (
        scale(cond, uncond, guidance) - x_t) / rest(t[:, None])  # fmt: skip


def _predicted(n: int, d: int, guidance: float) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    cond, uncond, x_t = torch.randn(3, n, d)
    return cond, uncond, x_t, 0.1 + 0.8 * torch.rand(n), guidance


GUIDED_VELOCITY = Task(
    name="guided_velocity", chapter=19, difficulty=2, minutes=10, answer=guided_velocity,
    cases=lambda: [
        (torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([[0.5]]),
         torch.tensor([0.5]), 2.0),
        (torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([[0.5]]),
         torch.tensor([0.75]), 0.0),
        _predicted(1, 3, 1.0), _predicted(3, 3, 1.5), _predicted(2, 4, 5.0), _predicted(4, 2, 0.5),
    ],
    properties=(
        Property("at guidance 1 the unconditional prediction has no say",
                 lambda out, c, u, x, t, g: g != 1 or torch.allclose(
                     out, velocity(c, x, t), atol=1e-4)),
    ),
    mistakes=(
        Mistake("The two are exchanged: begin at the unconditional prediction, and go to the"
                " conditional one.", _guided(lambda c, u, g: c + g * (u - c))),
        Mistake("That counts guidance from 0: here 1 is none, and 0 ignores the caption.",
                _guided(lambda c, u, g: c + g * (c - u))),
        Mistake("That is the guided *prediction*. The velocity is the way to it, divided by the"
                " time that is left.", lambda c, u, x, t, g: u + g * (c - u)),
        Mistake("The time that is left is 1 − t.", _guided(rest=lambda t: t)),
        Mistake("The way to the prediction is divided by nothing: 1 − t is left to go it.",
                _guided(rest=torch.ones_like)),
        Mistake("Only the conditional prediction is multiplied: extrapolate the *difference*.",
                _guided(lambda c, u, g: g * c)),
        Mistake("A mean of both never goes beyond the conditional one; guidance above 1 does.",
                _guided(lambda c, u, g: (c + u) / 2)),
        Mistake("The velocity leads from x_t to the prediction: subtract x_t.",
                lambda c, u, x, t, g: (u + g * (c - u)) / (1 - t[:, None])),
        Mistake("Each row has its own time: t[:, None].",
                lambda c, u, x, t, g: (u + g * (c - u) - x) / (1 - t)),
    ),
    hints=(
        "First one prediction out of two, then its velocity.",
        "uncond + guidance · (cond − uncond); then the way from x_t to it, by the time left.",
        "(uncond + guidance * (cond - uncond) - x_t) / (1 - t)[:, None].",
    ),
)  # fmt: skip


# --- adaptive_layer -------------------------------------------------------------------------------


def adaptive_layer(x: Tensor, weight: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
    modulation = torch.cat([shift, scale, gate], dim=-1)
    return adaptive(x, _norm, lambda h: h @ weight.T, modulation)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _layer(n: int, d: int) -> tuple[Tensor, ...]:
    return 2 * torch.randn(n, d) + 1, torch.randn(d, d), *torch.randn(3, d)


ADAPTIVE_LAYER = Task(
    name="adaptive_layer", chapter=19, difficulty=3, minutes=15, answer=adaptive_layer,
    trained=("x", "weight", "shift", "scale", "gate"), tolerance=1e-4,
    cases=lambda: [
        (torch.tensor([[1.0, 3.0]]), torch.eye(2), *torch.zeros(2, 2), torch.ones(2)),
        (torch.tensor([[1.0, 3.0]]), torch.eye(2), torch.ones(2), torch.ones(2), torch.zeros(2)),
        _layer(1, 3), _layer(2, 3), _layer(3, 3), _layer(4, 5), _layer(3, 8),
    ],
    mistakes=(
        Mistake("1 + scale: a scale of zero must leave the norm as it is.",
                lambda x, w, sh, sc, g: x + g * ((_norm(x) * sc + sh) @ w.T)),
        Mistake("The way around the layer is missing: x + gate · layer(…).",
                lambda x, w, sh, sc, g: g * ((_norm(x) * (1 + sc) + sh) @ w.T)),
        Mistake("The gate holds back x as well. It gates what comes out of the *layer*.",
                lambda x, w, sh, sc, g: g * (x + (_norm(x) * (1 + sc) + sh) @ w.T)),
        Mistake("The shift is scaled too: first scale, then shift.",
                lambda x, w, sh, sc, g: x + g * (((_norm(x) + sh) * (1 + sc)) @ w.T)),
        Mistake("Scale and shift go *into* the layer; yours change what comes out.",
                lambda x, w, sh, sc, g: x + g * ((_norm(x) @ w.T) * (1 + sc) + sh)),
        Mistake("x is not normalised.",
                lambda x, w, sh, sc, g: x + g * ((x * (1 + sc) + sh) @ w.T)),
        Mistake("A layer norm takes the mean away first; yours divides by the root mean square.",
                lambda x, w, sh, sc, g: x + g * ((
                    x / x.square().mean(-1, keepdim=True).add(1e-5).sqrt() * (1 + sc) + sh)
                    @ w.T)),
        Mistake("`std` divides by D − 1; the norm divides by D (unbiased=False).",
                lambda x, w, sh, sc, g: x + g * (((x - x.mean(-1, keepdim=True)) / (
                    x.var(-1, keepdim=True) + 1e-5).sqrt() * (1 + sc) + sh) @ w.T)),
        Mistake("h @ weight.T, as in nn.Linear: an output is a row of the weight.",
                lambda x, w, sh, sc, g: x + g * ((_norm(x) * (1 + sc) + sh) @ w)),
        Mistake("The gate opens by 1 + gate: then the layer is not the identity at the start.",
                lambda x, w, sh, sc, g: x + (1 + g) * ((_norm(x) * (1 + sc) + sh) @ w.T)),
    ),
    hints=(
        "Four things in this order: norm, scale and shift, the layer, gate and add.",
        "F.layer_norm(x, x.shape[-1:]) has no weights of its own; the layer is h @ weight.T.",
        "h = F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift; return x + gate * (h @"
        " weight.T).",
    ),
)  # fmt: skip


# --- slerp ----------------------------------------------------------------------------------------


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    a, b = F.normalize(a, dim=0), F.normalize(b, dim=0)
    across = b - (a @ b) * a
    angle = share * torch.atan2(across.norm(), a @ b)
    return angle.cos() * a + angle.sin() * F.normalize(across, dim=0)


def _by_sines(a: Tensor, b: Tensor, share: float) -> Tensor:
    angle = torch.acos((a @ b).clamp(-1, 1))
    return (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / angle.sin()


def _unit(*vectors: Tensor) -> list[Tensor]:
    return [F.normalize(v, dim=0) for v in vectors]


SLERP = Task(
    name="slerp", chapter=19, difficulty=3, minutes=20, answer=slerp, tolerance=1e-4,
    cases=lambda: [
        (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5),
        (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.25),
        (torch.tensor([0.0, 2.0]), torch.tensor([3.0, 0.0]), 0.0),
        (torch.tensor([0.6, 0.8]), torch.tensor([0.6, 0.8]), 0.5),
        (torch.randn(3), torch.randn(3), 0.2), (torch.randn(4), torch.randn(4), 0.9),
        (3 * torch.randn(5), 0.1 * torch.randn(5), 0.4), (torch.randn(8), torch.randn(8), 1.0),
        (torch.randn(128), torch.randn(128), 0.7),
    ],
    properties=(Property("the vector has the length 1",
                         lambda out, *_: abs(float(out.norm()) - 1) < 1e-3),),
    mistakes=(
        Mistake("That is the chord. In its middle the vector is shorter, and no picture has it.",
                lambda a, b, s: torch.lerp(*_unit(a, b), s)),
        Mistake("The chord, drawn out to length 1: right in the middle, but the angles of equal"
                " shares are not equal.",
                lambda a, b, s: F.normalize(torch.lerp(*_unit(a, b), s), dim=0)),
        Mistake("a and b may have any length: normalise them first.",
                lambda a, b, s: _by_sines(a, b, s)),
        Mistake("Equal vectors: sin 0 / sin 0. Take the part of b at right angles to a, or return"
                " a where the angle is 0.", lambda a, b, s: _by_sines(*_unit(a, b), s)),
        Mistake("That goes from b to a: share 0 is a.", lambda a, b, s: slerp(b, a, s)),
        Mistake("The angle is in degrees; cos and sin want radians.",
                lambda a, b, s: (lambda u, w: (lambda across: (
                    torch.rad2deg(s * torch.atan2(across.norm(), u @ w)).cos() * u
                    + torch.rad2deg(s * torch.atan2(across.norm(), u @ w)).sin()
                    * F.normalize(across, dim=0)))(w - (u @ w) * u))(*_unit(a, b))),
        Mistake("cos · a + sin · b is a circle only if b stands at right angles to a.",
                lambda a, b, s: (lambda u, w: (s * torch.acos((u @ w).clamp(-1, 1))).cos() * u
                                 + (s * torch.acos((u @ w).clamp(-1, 1))).sin() * w)(
                                     *_unit(a, b))),
        Mistake("Lengths are mixed with angles: the result has the length of neither, and 1 is"
                " asked for.",
                lambda a, b, s: slerp(a, b, s) * ((1 - s) * a.norm() + s * b.norm())),
    ),
    hints=(
        "On the circle through a and b: angle 0 is a, the angle between them is b.",
        "Take from b its part along a, and make the rest a unit vector c: then a and c are the axes"
        " of the circle.",
        "angle = share · atan2(|b − (a·b) a|, a·b); return cos(angle) a + sin(angle) c.",
    ),
)  # fmt: skip


# --- unpatch --------------------------------------------------------------------------------------


def unpatch(patches: Tensor, p: int, columns: int) -> Tensor:
    return rearrange(patches, "(h w) (c p q) -> c (h p) (w q)", p=p, q=p, w=columns)


def _unfolded(pattern: str):
    return lambda patches, p, columns: rearrange(patches, pattern, p=p, q=p, w=columns)


def _square(patches: Tensor, p: int, columns: int) -> Tensor:
    return unpatch(patches, p, int(len(patches) ** 0.5))


def _numbered(rows: int, columns: int, p: int) -> tuple[Tensor, int, int]:
    numbers = 0.5 * torch.arange(rows * columns * 3 * p * p) - 3
    return numbers.view(rows * columns, 3 * p * p), p, columns


UNPATCH = Task(
    name="unpatch", chapter=19, difficulty=3, minutes=15, answer=unpatch,
    cases=lambda: [
        _numbered(1, 1, 2), _numbered(2, 2, 1), _numbered(1, 2, 2), _numbered(2, 1, 2),
        _numbered(2, 2, 2), _numbered(2, 3, 2), _numbered(3, 2, 3), _numbered(4, 1, 2),
        (torch.randn(6, 48), 4, 3),
    ],
    properties=(
        Property("every number occurs once",
                 lambda out, patches, *_: torch.equal(out.flatten().sort().values,
                                                      patches.flatten().sort().values)),
    ),
    mistakes=(
        Mistake("`reshape` alone lays the patches out one after the other: each row of a patch"
                " belongs beside the same row of the next patch.",
                lambda patches, p, columns: patches.reshape(3, -1, columns * p)),
        Mistake("The patches come row by row; yours are laid down column by column.",
                _unfolded("(w h) (c p q) -> c (h p) (w q)")),
        Mistake("Within a patch the colours come first: all of its reds, then its greens.",
                _unfolded("(h w) (p q c) -> c (h p) (w q)")),
        Mistake("Within a patch rows and columns are exchanged.",
                _unfolded("(h w) (c q p) -> c (h p) (w q)")),
        Mistake("The pixels of a patch are scattered over the picture: they must be neighbours.",
                _unfolded("(h w) (c p q) -> c (p h) (q w)")),
        Mistake("The colours are the last axis. A picture is 3 × H × W.",
                _unfolded("(h w) (c p q) -> (h p) (w q) c")),
        Mistake("The picture need not be square: `columns` says how many patches a row has.",
                _square),
    ),
    hints=(
        "Name all five axes: rows of patches, columns of patches, colours, rows and columns in a"
        " patch.",
        "N 3p² → rows columns 3 p p; then the order 3, rows, p, columns, p; then join pairs.",
        "patches.reshape(-1, columns, 3, p, p).permute(2, 0, 3, 1, 4).reshape(3, -1,"
        " columns * p).",
    ),
)  # fmt: skip

TASKS = (POINT_AND_VELOCITY, FLOW_GAUSSIAN, GUIDED_VELOCITY, ADAPTIVE_LAYER, SLERP, UNPATCH)
