"""Drawing with a masked-code model: some codes a pass, many at once (Chang et al. 2022, §3.2).

All codes are hidden at first. A pass predicts every hidden code, draws some, and makes these
visible for good. After pass t of T there are ⌊cos(πt / 2T) · N⌋ hidden ones left. The order decides
which codes a pass draws:

    confidence   those of which the model is most sure once they are drawn, plus Gumbel noise that
                 fades to nothing (Chang et al. 2022). Without noise the sky and the ground, always
                 sure, come first, and leave the thing no room.
    even         the next ones of a low-discrepancy sequence, which lie far apart (Besnier et al.
                 2025)

The codes of one pass are drawn independently of each other. Few passes are fast and less exact. One
code a pass, in the order "even", is an exact sample of the product of the model's conditionals.

Codes that are known are visible from the start. So any region can be drawn anew (infilling).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from minidalle.baselines.masked import Masked, MaskedConfig
from minidalle.errors import MinidalleError
from minidalle.quantize import gumbel_noise
from minidalle.sampling import SamplingConfig, filter_logits

HIDDEN = -1  # in place of a code that is not known
ORDERS = ("confidence", "even")
# Scale of the noise on the confidence, nats, as in the authors' code. In a trial with 8 passes, 17
# of 32 pictures were right with it and 7 without.
CONFIDENCE_NOISE = 4.5


def even_order(grid: int) -> Tensor:
    """The cells of a grid in the order in which the Halton sequence (1960) first visits them, N.

    Point i has i's digits mirrored at the point, in base 2 for the row and 3 for the column. Any
    first few points cover the picture evenly.
    """

    def mirrored(i: int, base: int) -> float:
        x, place = 0.0, 1.0
        while i:
            place /= base
            x, i = x + place * (i % base), i // base
        return x

    cells: dict[int, None] = {}  # a set that keeps its order
    i = 0
    while len(cells) < grid**2:
        cells.setdefault(int(mirrored(i, 2) * grid) * grid + int(mirrored(i, 3) * grid))
        i += 1
    return torch.tensor(list(cells))


def schedule(cells: int, passes: int) -> list[int]:
    """How many cells are still hidden after each pass. A pass draws at least one cell, so there are
    no more passes than cells; with as many, each draws one."""
    passes, left = min(passes, cells), [cells]
    for t in range(1, passes + 1):
        rest = math.floor(math.cos(math.pi * t / (2 * passes)) * cells)
        left.append(min(rest, left[-1] - 1))
    return left[1:] or [0]


@torch.no_grad()
def sample_masked(
    model: Masked,
    text: Tensor,
    uncond: Tensor,
    sampling: SamplingConfig,
    generators: list[torch.Generator],
    *,
    passes: int = 8,
    order: str = "confidence",
    given: Tensor | None = None,
) -> Iterator[Tensor]:
    """Sample candidates; yields their codes after every pass, n × N, −1 where still hidden.

    text, uncond: the caption and the empty caption, 1 T, or one per candidate, n T. generators: one
    on the CPU per candidate. given: codes to keep, N or n N, −1 where to draw. A known code never
    changes. Raises MinidalleError where an argument does not fit, or a logit is not finite.
    """
    n, c = len(generators), model.config
    codes = _check_given(given, n, c).to(text.device)
    if order not in ORDERS or passes < 1:
        raise MinidalleError(
            f"order {order!r} and passes {passes}: choose one of {', '.join(ORDERS)}, and 1 or more"
        )
    turn = even_order(c.grid).argsort()  # of each cell, N
    is_guided = sampling.guidance != 1
    prompts = [text, uncond] if is_guided else [text]
    prompt = torch.cat([p.expand(n, -1) for p in prompts])
    left = [schedule(int(cells), passes) for cells in (codes == HIDDEN).sum(1)]
    vectors = model.code_vectors(), model.head_vectors()
    for t in range(max(map(len, left))):
        hidden = codes == HIDDEN
        every, where = codes.repeat(len(prompts), 1), hidden.repeat(len(prompts), 1)
        logits = model.logits(prompt, every, where, vectors).float().cpu()
        if is_guided:
            with_caption, without = logits.chunk(2)
            logits = without + sampling.guidance * (with_caption - without)
        if not logits.isfinite().all():  # argmax would take NaN for the most likely code
            raise MinidalleError(
                f"the model's logits are not finite in pass {t + 1}; train it again"
            )
        rows = logits.split(hidden.sum(1).tolist())
        for i, (row, generator) in enumerate(zip(rows, generators, strict=True)):
            cells = hidden[i].nonzero()[:, 0].cpu()  # h, of which `row` has the logits, h K
            drawn = _draw(row, sampling, generator)  # h
            first = -turn[cells].float()
            if order == "confidence":
                first = row.log_softmax(-1).gather(1, drawn[:, None])[:, 0]
                if sampling.temperature > 0:
                    scale = CONFIDENCE_NOISE * max(0.0, 1 - (t + 1) / len(left[i]))
                    first = first + scale * gumbel_noise(first, generator)
            count = len(cells) - left[i][min(t, len(left[i]) - 1)]
            chosen = first.topk(count).indices
            codes[i, cells[chosen]] = drawn[chosen].to(codes.device)
        yield codes.clone()


def _draw(logits: Tensor, sampling: SamplingConfig, generator: torch.Generator) -> Tensor:
    """A code for each row of logits, h K → h."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    return (filter_logits(logits, sampling) + gumbel_noise(logits, generator)).argmax(-1)


def _check_given(given: Tensor | None, n: int, c: MaskedConfig) -> Tensor:
    """What is given of n candidates, n × N. Raises MinidalleError where it does not fit."""
    cells = c.grid**2
    if given is None:
        return torch.full((n, cells), HIDDEN)
    if given.shape not in ((cells,), (n, cells)) or not -1 <= given.min() <= given.max() < c.codes:
        raise MinidalleError(
            f"given is {tuple(given.shape)}: {cells} codes below {c.codes}, or {n} rows of them,"
            " and −1 where to draw"
        )
    return given.expand(n, -1).clone()
