"""Measure a bundle on pictures of one's own, which no judge can read.

What a judge would say is estimated, each number with its weakness:

    dVAE         PSNR of held-out pictures: how much the codes lose
    retrieval    share of held-out pictures whose caption CLIP finds among all of them
    CLIP score   mean cosine similarity of a drawing and its caption; beside it that of the real
                 picture and the caption
    FID          Fréchet distance of the drawings' features to the real ones, with an interval from
                 a bootstrap over pictures; it depends on whose features they are
    nearest      distance of a drawing to the nearest training picture, beside that of a real
                 held-out picture: drawings that are much nearer are copies

Features and scores come from an *independent* CLIP where one is given: the bundle's own has ranked
these very drawings, and likes them.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from minidalle.datasets.source import FolderSource
from minidalle.errors import MinidalleError
from minidalle.evaluation.metrics import frechet_distance
from minidalle.pipeline import MiniDALLE
from minidalle.tensors import to_tensor, to_uint8

BOOTSTRAPS = 200  # resamples for an interval
FEWEST = 10  # held-out pictures; a covariance of fewer says nothing


class Drawn(NamedTuple):
    """A held-out caption, its picture, and what the bundle drew."""

    caption: str
    real: np.ndarray  # uint8 H W 3
    drawn: np.ndarray  # uint8 H W 3, the first drawing
    nearest: np.ndarray  # uint8 H W 3, the training picture nearest to the drawing


@torch.no_grad()
def evaluate_pictures(
    model: MiniDALLE,
    source: FolderSource,
    *,
    split: str = "test",
    features: MiniDALLE | None = None,
    pictures: int = 200,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict[str, Any], list[Drawn]]:
    """The report, ready for JSON, and up to `pictures` captions with their drawings.

    features: a bundle whose CLIP gives features and scores; the model itself by default.
    Raises MinidalleError where the split has too few pictures to count.
    """
    n = min(pictures, len(source.splits[split]))
    if n < FEWEST:
        raise MinidalleError(
            f"the {split} split has {n} pictures, and {FEWEST} are needed: add pictures"
        )
    judge = features or model
    captions = [source.caption(split, i) for i in range(n)]
    real = [source.image(split, i) for i in range(n)]
    drawn = []
    for i in progress(range(n)):
        drawn.append(to_uint8(model.candidates(captions[i], 1, seed + i)[1])[0])
    real_features, drawn_features = image_features(judge, real), image_features(judge, drawn)
    text = judge.tokenizer.batch(captions, judge.clip.config.text_length).to(judge.device)
    text_features = torch.cat([judge.clip.encode_text(part) for part in text.split(100)])
    training = [source.image("train", i) for i in range(source.epoch)]
    near, which = nearest(drawn_features, image_features(judge, training))
    real_near, _ = nearest(real_features, image_features(judge, training))
    x = to_tensor(real, model.device)
    y = model.dvae.decode(model.dvae.encode(x))
    low, high = bootstrap_fid(real_features, drawn_features, seed)
    report = {
        "split": split,
        "pictures": n,
        "source": source.name,
        "features": f"CLIP trained on {judge.info.get('source', 'unknown pictures')}",
        "independent": features is not None,
        "dvae_psnr": round((-10 * (x - y).square().mean((1, 2, 3)).log10()).mean().item(), 2),
        "retrieval": round(_retrieval(real_features, text_features, captions), 4),
        "clip_score": {
            "drawn": round((drawn_features * text_features).sum(1).mean().item(), 4),
            "real": round((real_features * text_features).sum(1).mean().item(), 4),
        },
        "fid": {
            "value": round(frechet_distance(real_features, drawn_features), 4),
            "low": round(low, 4),
            "high": round(high, 4),
        },
        "nearest_training_picture": {
            "drawn": round(near.median().item(), 4),
            "real": round(real_near.median().item(), 4),
        },
    }
    shown = [
        Drawn(*row) for row in zip(captions, real, drawn, [training[j] for j in which], strict=True)
    ]
    return report, shown


def image_features(model: MiniDALLE, pictures: list[np.ndarray]) -> Tensor:
    """CLIP's unit vectors of pictures, n × E."""
    parts = [
        model.clip.encode_image(to_tensor(pictures[i : i + 100], model.device))
        for i in range(0, len(pictures), 100)
    ]
    return torch.cat(parts)


def nearest(features: Tensor, training: Tensor) -> tuple[Tensor, list[int]]:
    """The cosine distance of each row to the nearest training row, and which that is."""
    similarity, which = (features @ training.T).max(1)
    return 1 - similarity, which.tolist()


def nearest_codes(codes: Tensor, training: Tensor) -> tuple[Tensor, list[int]]:
    """The share of its codes that each row, B N, has in common with the most similar training row,
    n N, and which that is. 1 is a copy; pictures of one sky share codes without being copies, so
    compare with the shares of new pictures. A copy that is shifted by a pixel is not seen here."""
    same = torch.stack([(training == row).float().mean(1) for row in codes])  # B n
    share, which = same.max(1)
    return share, which.tolist()


def _retrieval(image: Tensor, text: Tensor, captions: list[str]) -> float:
    """Share of pictures whose most similar caption is theirs; equal captions count as one."""
    found = (image @ text.T).argmax(1).tolist()
    hits = [captions[j] == caption for j, caption in zip(found, captions, strict=True)]
    return float(np.mean(hits))


def bootstrap_fid(
    real: Tensor, drawn: Tensor, seed: int = 0, share: float = 0.95
) -> tuple[float, float]:
    """An interval of the Fréchet distance: both sets resampled with replacement, 200 times.

    A resampled set has repeats, so its covariance is a little flatter, and the whole interval lies
    a little high. It compares two models on the same pictures; it is no bound on the true distance.
    """
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(BOOTSTRAPS):
        a = torch.randint(len(real), (len(real),), generator=generator).to(real.device)
        b = torch.randint(len(drawn), (len(drawn),), generator=generator).to(drawn.device)
        values.append(frechet_distance(real[a], drawn[b]))
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
