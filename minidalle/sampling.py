"""Sampling: the prior's probabilities become codes, one at a time.

At each of the N positions a code is sampled from softmax(logits / temperature), after filtering:
`top_k` keeps the k most likely codes, `top_p` (nucleus sampling, Holtzman et al. 2020) the fewest
whose probabilities add up to p. Classifier-free guidance (Ho and Salimans 2022) runs the model with
the caption and without, and extrapolates from the unconditional logits:

    logits = uncond + guidance · (cond − uncond)           guidance = 1 is no guidance

Each candidate has its own generator: candidate c of a seed does not depend on how many there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from minidalle.errors import MinidalleError, check_fields
from minidalle.quantize import gumbel_noise


class AutoregressiveModel(Protocol):
    """A model of p(code | caption, codes before it): the prior, or another with its methods."""

    config: Any  # with `grid`, codes across a picture, and `codes`, K

    def prefill(self, text: Tensor) -> tuple[Any, Tensor]:
        """Read captions, B T: the state of decoding (with `repeat`) and the first logits, B K."""

    def decode_step(self, code: Tensor, position: int, state: Any) -> Tensor:
        """Append the code at a raster position, B; the logits of the one after it, B K."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How codes are sampled."""

    temperature: float = 1.0  # 0..100; below 1 sharper, above 1 flatter; 0 is greedy
    top_k: int | None = None  # keep the k most likely codes, ≥ 1
    top_p: float | None = None  # keep the fewest codes whose probabilities reach this
    guidance: float = 1.0  # guidance scale, ≥ 0; 1 is none

    def __post_init__(self) -> None:
        check_fields(
            self, temperature=(0, 100), top_k=(1, 65_536), top_p=(1e-3, 1), guidance=(0, 1e6)
        )


def filter_logits(logits: Tensor, config: SamplingConfig) -> Tensor:
    """Temperature, then top-k, then top-p: … K → … K, −∞ where a code is removed."""
    logits = logits.float() / max(config.temperature, 1e-6)
    if config.top_k is not None and config.top_k < logits.shape[-1]:
        kept = logits.topk(config.top_k).indices
        logits = torch.full_like(logits, -torch.inf).scatter(-1, kept, logits.gather(-1, kept))
    if config.top_p is not None and config.top_p < 1:
        p = logits.softmax(-1)
        # Codes below (1 - p) / K weigh less than 1 - p together: none is kept, so none is sorted.
        n = int((p > (1 - config.top_p) / p.shape[-1]).sum(-1).max())
        ordered, order = logits.topk(n)
        p = p.gather(-1, order)
        before = p.cumsum(-1) - p  # 0 for the most likely code, which therefore always stays
        ordered = ordered.masked_fill(before >= config.top_p, -torch.inf)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, order, ordered)
    return logits


@torch.no_grad()
def sample_codes(
    prior: AutoregressiveModel,
    text: Tensor,
    uncond: Tensor,
    config: SamplingConfig,
    generators: list[torch.Generator],
    prime: Tensor | None = None,
    evidence: Tensor | None = None,
) -> Iterator[Tensor]:
    """Sample candidates of one caption; yields the codes so far, n × (1 … N), after every step.

    text: the caption, 1 T, or one caption per candidate, n T. uncond: the empty caption, 1 T.
    generators: one on the CPU per candidate.
    prime: given first codes, n × p in raster order (whole rows complete a picture).
    evidence: ln p(what is known of a cell | code), N × K; it is added to the logits, so codes come
    from the posterior. −∞ rules a code out. (`editing` makes it from a picture.)
    Raises MinidalleError where text, prime or evidence do not fit, or where a logit is NaN or
    infinite.
    """
    n, c = len(generators), prior.config
    positions = c.grid**2
    is_guided = config.guidance != 1
    if len(text) not in (1, n):
        raise MinidalleError(f"{len(text)} captions and {n} candidates: give one caption, or {n}")
    prompts = torch.cat([text, uncond.expand(len(text), -1)]) if is_guided else text
    state, logits = prior.prefill(prompts)
    if len(text) < n:  # all candidates go on from one caption
        state.repeat(n)
        logits = logits.repeat_interleave(n, 0)
    given = torch.empty(n, 0, dtype=torch.int64) if prime is None else prime.cpu()
    fits = given.shape[0] == n and given.shape[1] <= positions
    if not fits or (given.numel() and not 0 <= given.min() <= given.max() < c.codes):
        raise MinidalleError(
            f"prime is {tuple(given.shape)}: {n} rows of at most {positions} codes below {c.codes}"
        )
    if evidence is not None:
        if evidence.shape != (positions, c.codes) or not (evidence > -torch.inf).any(1).all():
            raise MinidalleError(
                f"evidence is {tuple(evidence.shape)}: {positions} cells × {c.codes} codes, at"
                " least one of them possible in each cell"
            )
        evidence = evidence.to(logits.device)
    codes = given[:, :0].to(logits.device)
    for position in range(positions):
        if is_guided:
            with_caption, without = logits.chunk(2)
            logits = without + config.guidance * (with_caption - without)
        if not logits.isfinite().all():  # argmax would take NaN for the most likely code
            raise MinidalleError(
                f"the prior's logits are not finite at code {position + 1} of {positions};"
                " fetch a fresh copy of the bundle, or train the prior again"
            )
        if evidence is not None:
            logits = logits + evidence[position]
        if position < given.shape[1]:
            code = given[:, position].to(logits.device)
        elif config.temperature == 0:
            code = logits.argmax(-1)
        else:
            row = torch.empty(c.codes)
            noise = torch.stack([gumbel_noise(row, g) for g in generators])
            code = (filter_logits(logits, config) + noise.to(logits.device)).argmax(-1)
        codes = torch.cat([codes, code[:, None]], dim=1)
        yield codes
        if position + 1 < positions:
            step = torch.cat([code, code]) if is_guided else code
            logits = prior.decode_step(step, position, state)


def candidate_generators(seed: int, n: int) -> list[torch.Generator]:
    """One generator per candidate: candidate c is the same however many are sampled."""
    return [torch.Generator().manual_seed((seed * 1_000_003 + c) % 2**63) for c in range(n)]
