"""Editing: the same prior, given what is known of a picture.

To draw is to sample from p(codes | caption). To edit is to sample from the posterior, in which each
cell also has to agree with what is known of it (a noisy channel, Shannon 1948):

    p(code | past, caption, known) ∝ p(known | code) · p(code | past, caption)

so an edit is N × K numbers, ln p(known of a cell | code), which sampling adds to the logits:

    a cell that is kept         0 for its code, −∞ for all others            `keep`
    a cell to be drawn          0 for every code                             `keep`
    a cell seen through noise   −|pixels − look of the code|² / 2σ²          `observe`

No model is trained for any of it. Two limits remain. The prior writes in raster order, so it draws
a cell without a look at what is known further down. Candidates are therefore weighed by how likely
what came later was under them (`log_weight`): by these weights they are samples of the posterior
of the whole picture (importance sampling), and the heaviest comes first. And the decoder looks at
neighbouring cells, so pixels within a cell of a border change a little; `blend` puts the old ones
back.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.pipeline import MiniDALLE, Ranked, distinct_first
from minidalle.prior import Prior
from minidalle.tensors import to_tensor, to_uint8

MIN_SIGMA = 0.05  # of pixels in [0, 1]: what the dVAE itself loses counts as noise
Region = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels: the upper left, and one past the end


def cells_of(region: Region, dvae: DVAE) -> Tensor:
    """The cells that a region touches: bool, h × w. Raises MinidalleError for an empty region."""
    size, f, grid = dvae.config.image_size, dvae.config.factor, dvae.config.grid
    x0, y0, x1, y1 = region
    if not (0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size):
        raise MinidalleError(
            f"region {','.join(map(str, region))} is not inside the picture; give x0,y0,x1,y1 with"
            f" 0 ≤ x0 < x1 ≤ {size} and 0 ≤ y0 < y1 ≤ {size}"
        )
    cells = torch.zeros(grid, grid, dtype=torch.bool)
    cells[y0 // f : -(-y1 // f), x0 // f : -(-x1 // f)] = True
    return cells


def keep(codes: Tensor, free: Tensor, num_codes: int) -> Tensor:
    """Evidence that keeps the codes, h × w, of all cells but the free ones: N × K."""
    kept = torch.where(F.one_hot(codes.flatten(), num_codes).bool(), 0.0, -torch.inf)
    return kept.masked_fill(free.flatten()[:, None].to(kept.device), 0.0)


@torch.no_grad()
def observe(
    dvae: DVAE,
    image: Tensor,
    sigma: float,
    visible: Tensor | None = None,
    looks: Tensor | None = None,
) -> Tensor:
    """Evidence of a picture, 3 H W in [0, 1], seen through Gaussian noise: N × K.

    sigma: standard deviation of the noise. visible: the pixels that are there, bool H W; those of
    a scratch or a missing square say nothing. looks: `dvae.looks()`, where they are at hand.
    """
    f = dvae.config.factor
    fold = "c (h p) (w q) -> (h w) (c p q)"
    squares = rearrange(image, fold, p=f, q=f)
    seen = torch.ones_like(image) if visible is None else visible.to(image).expand_as(image)
    weight, looks = rearrange(seen, fold, p=f, q=f), dvae.looks() if looks is None else looks
    # |w (x − l)|² for w in {0, 1}, without an N × K × 3f² tensor
    apart = (weight * squares**2).sum(1, keepdim=True) - 2 * (weight * squares) @ looks.T
    apart = apart + weight @ (looks**2).T
    return -apart / (2 * sigma**2)


@torch.no_grad()
def log_weight(prior: Prior, text: Tensor, codes: Tensor, evidence: Tensor) -> Tensor:
    """Σ ln p(what is known of a cell | earlier codes, caption) of each candidate: text 1 T, codes
    n N, evidence N K → n."""
    logits = prior.logits(text.expand(len(codes), -1), codes)[1].float()
    return (logits.log_softmax(-1) + evidence.to(logits.device)).logsumexp(-1).sum(-1)


def blend(before: np.ndarray, after: np.ndarray, free: Tensor, factor: int) -> np.ndarray:
    """The picture after an edit, with the pixels of kept cells as they were before: uint8 H W 3."""
    pixels = free.repeat_interleave(factor, 0).repeat_interleave(factor, 1).cpu().numpy()
    return np.where(pixels[..., None], after, before)


def edit(
    model: MiniDALLE,
    image: np.ndarray,
    caption: str,
    region: Region,
    candidates: int = 16,
    keep_best: int = 4,
    seed: int = 0,
    **sampling,
) -> Ranked:
    """Draw what lies inside a region of a picture anew, under a caption of the whole picture.

    image: uint8 H × H × 3, as large as the model's pictures. All outside stays, pixel by pixel.
    Raises MinidalleError.
    """
    x = as_input(model, image)
    free = cells_of(region, model.dvae)
    codes = model.dvae.encode(x)[0]
    evidence = keep(codes, free, model.dvae.config.codes)
    ranked = _sample(model, caption, evidence, candidates, keep_best, seed, sampling)
    factor = model.dvae.config.factor
    images = np.stack([blend(image, after, free, factor) for after in ranked.images])
    return replace(ranked, images=images)


def repair(
    model: MiniDALLE,
    image: np.ndarray,
    caption: str = "",
    sigma: float | None = None,
    visible: np.ndarray | None = None,
    candidates: int = 8,
    keep_best: int = 1,
    seed: int = 0,
    **sampling,
) -> Ranked:
    """A picture without its noise, its scratches and its holes.

    sigma: standard deviation of the noise, of pixels in [0, 1]; estimated by default.
    visible: bool H × H, False where pixels are missing. caption: what the picture shows, if known.
    Raises MinidalleError.
    """
    x = as_input(model, image)
    there = None if visible is None else torch.from_numpy(visible).to(x.device)
    looks = model.dvae.looks()
    sigma = estimate_noise(model.dvae, x[0], there, looks) if sigma is None else sigma
    evidence = observe(model.dvae, x[0], max(sigma, MIN_SIGMA), there, looks)
    return _sample(model, caption, evidence, candidates, keep_best, seed, sampling)


def estimate_noise(
    dvae: DVAE, image: Tensor, visible: Tensor | None = None, looks: Tensor | None = None
) -> float:
    """The standard deviation of a picture's noise: what is left of its squares when their nearest
    looks are taken off, in the median. Most squares are sky and ground, which codes fit well."""
    f = dvae.config.factor
    apart = -2 * observe(dvae, image, 1.0, visible, looks).max(1).values  # |pixels − look|²
    seen = torch.ones_like(image[:1]) if visible is None else visible.to(image)[None]
    count = 3 * rearrange(seen, "c (h p) (w q) -> (h w) (c p q)", p=f, q=f).sum(1)
    return (apart / count)[count > 0].median().clamp(min=0).sqrt().item()


def as_input(model: MiniDALLE, image: np.ndarray) -> Tensor:
    """A picture as the dVAE reads it, 1 3 H W. Raises MinidalleError for another size."""
    size = model.dvae.config.image_size
    if image.dtype != np.uint8 or image.shape != (size, size, 3):
        raise MinidalleError(
            f"the picture is {image.dtype} of shape {image.shape}; resize it to {size} × {size}"
            " pixels, uint8 with three channels"
        )
    return to_tensor([image], model.device)


def _sample(
    model: MiniDALLE, caption: str, evidence: Tensor, n: int, best: int, seed: int, sampling: dict
) -> Ranked:
    """Candidates that agree with the evidence, the heaviest first; their scores are weights that
    add up to 1 over all candidates."""
    config = replace(model.sampling, **sampling)
    codes, images = model.candidates(caption, n, seed, config, evidence=evidence)
    text = model.tokenizer.batch([caption], model.prior.config.text_length).to(model.device)
    weights = log_weight(model.prior, text, codes, evidence).softmax(0)
    order = weights.argsort(descending=True, stable=True)
    order = order[distinct_first(codes[order], near=0)][:best]
    grid = model.dvae.config.grid
    return Ranked(
        caption,
        to_uint8(images[order]),
        weights[order].cpu().numpy(),
        codes[order].reshape(-1, grid, grid).cpu().numpy(),
        order.cpu().numpy(),
    )
