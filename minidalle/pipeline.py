"""MiniDALLE: one bundle, from a caption to ranked pictures.

    caption ─ tokenizer ─ prior ─ codes ─ dVAE ─ pictures ─ CLIP ─ ranked pictures

A bundle is one directory with all that belongs together: the tokenizer, the three models with their
configs, how to sample, and the words that training ever used. Nothing can disagree with what was
trained.
"""

import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minidalle.clip import CLIP, CLIPConfig, rerank
from minidalle.contact_sheet import strip
from minidalle.dvae import DVAE, DVAEConfig
from minidalle.errors import MinidalleError
from minidalle.prior import Prior, PriorConfig
from minidalle.sampling import SamplingConfig, draw, generators
from minidalle.tokenizer import Tokenizer
from minidalle.training import checkpoint
from minidalle.training.trainer import pick_device
from minidalle.training.weights import load_weights, settings

# A Chinese character, a run of other letters and digits, or a pictograph.
WORD = re.compile(r"[㐀-鿿]|[^\W_㐀-鿿]+|[\u2600-\u27bf\U0001f300-\U0001faff]")
VISIBLE = re.compile(r"[^\s\u200b-\u200f\u2060\ufeff]")  # neither space nor of no width
MODELS = {"dvae": (DVAE, DVAEConfig), "prior": (Prior, PriorConfig), "clip": (CLIP, CLIPConfig)}


@dataclass(frozen=True)
class Ranked:
    """Pictures of one caption, best first."""

    caption: str
    images: np.ndarray  # uint8, keep × H × W × 3
    scores: np.ndarray  # float32, keep: CLIP's cosine similarity
    codes: np.ndarray  # int64, keep × grid × grid
    order: np.ndarray  # int64, keep: which candidate each one was

    def strip(self):
        """The pictures side by side with their scores, as a Pillow image."""
        return strip(self.images, [f"{s:.3f}" for s in self.scores], self.caption)

    def save(self, path: str | Path) -> Path:
        """Write the labelled strip; the suffix chooses the format. Raises MinidalleError."""
        path, strip = Path(path), self.strip()
        try:
            strip.save(path)
        except (OSError, ValueError, KeyError) as error:
            raise MinidalleError(
                f"cannot write {path}: {error}; choose a folder that exists and a name like x.png"
            ) from error
        return path


class MiniDALLE:
    """A trained bundle, ready to draw."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        dvae: DVAE,
        prior: Prior,
        clip: CLIP,
        info: dict,
        device: torch.device | str | None = None,
    ) -> None:
        self.tokenizer, self.info = tokenizer, info
        self.device = torch.device(device) if device else pick_device()
        models = (dvae, prior, clip)
        self.dvae, self.prior, self.clip = (
            m.to(self.device).eval().requires_grad_(False) for m in models
        )
        self.sampling = SamplingConfig(**info.get("sampling", {}))
        self.words = frozenset(info.get("words", ()))

    # --- On disk ----------------------------------------------------------------------------------

    @classmethod
    def load(cls, bundle: str | Path | None = None, device: str | None = None) -> "MiniDALLE":
        """Load a bundle; without a name, the one that ships with the package."""
        directory = Path(bundle) if bundle else default_bundle()
        if (directory / "bundle").is_dir():  # the --out of a training
            directory = directory / "bundle"
        tensors, documents = checkpoint.load(directory)
        if not documents.keys() >= {"tokenizer", "config", "info"} or not tensors.keys() >= set(
            MODELS
        ):
            raise MinidalleError(
                f"{directory} is a checkpoint, and not a bundle: name the directory that"
                " minidalle train all has written (OUT/bundle)"
            )
        models = {}
        for name, (kind, config_kind) in MODELS.items():
            saved = documents["config"][name]
            config = settings(config_kind, saved, f"{directory}: the {name}")
            models[name] = kind(config)
            state = {key: value.float() for key, value in tensors[name].items()}
            load_weights(
                models[name], state, file=directory, config=asdict(config), saved_config=saved
            )
        tokenizer = Tokenizer.from_json(documents["tokenizer"], file=directory / "tokenizer.json")
        sampling = documents["info"].get("sampling", {})
        settings(SamplingConfig, sampling, f"{directory}: the sampling")
        return cls(tokenizer, **models, info=documents["info"], device=pick_device(device))

    def save(self, directory: str | Path) -> Path:
        """Write the bundle, weights in half precision: what is drawn is the same to the eye."""
        models = {"dvae": self.dvae, "prior": self.prior, "clip": self.clip}
        tensors = {
            name: {k: v.half() if v.is_floating_point() else v for k, v in m.state_dict().items()}
            for name, m in models.items()
        }
        documents = {
            "config": {name: asdict(m.config) for name, m in models.items()},
            "tokenizer": self.tokenizer.to_json(),
            "info": self.info,
        }
        return checkpoint.save(Path(directory), tensors, documents)

    # --- Drawing ----------------------------------------------------------------------------------

    def unseen(self, caption: str) -> list[str]:
        """The words of a caption that training never used: nobody knows what they will draw."""
        words = WORD.findall(caption.lower())
        return [w for w in dict.fromkeys(words) if self.words and w not in self.words]

    @torch.no_grad()
    def candidates(
        self,
        caption: str,
        n: int = 32,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        prime: Tensor | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> tuple[Tensor, Tensor]:
        """Draw n pictures of a caption: codes, n × N, and images, n 3 H W in [0, 1].

        prime: codes that every candidate begins with, p in raster order; whole rows of a picture's
        codes complete that picture.
        """
        length = self.prior.config.text_length
        text = self.tokenizer.batch([caption], length).to(self.device)
        null = self.tokenizer.null(1, length).to(self.device)
        given = None if prime is None else prime.reshape(1, -1).expand(n, -1)
        steps = draw(self.prior, text, null, sampling or self.sampling, generators(seed, n), given)
        codes = deque(progress(steps), maxlen=1).pop()  # all but the last are steps on the way
        grid = self.dvae.config.grid
        return codes, self.dvae.decode(codes.reshape(-1, grid, grid))

    @torch.no_grad()
    def generate(
        self,
        caption: str,
        candidates: int = 32,
        keep: int | None = None,
        seed: int = 0,
        *,
        prime: Tensor | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
        **sampling,
    ) -> Ranked:
        """Draw `candidates` pictures and keep the `keep` that CLIP finds closest to the caption.

        keep: 4, or all where there are fewer, unless told otherwise.
        prime: codes of the first rows, which every candidate keeps: the picture is completed.
        sampling: temperature, top_k, top_p, guidance; what is left out is the bundle's own choice.
        Warns of a caption cut short and of words never seen. Raises MinidalleError.
        """
        if not VISIBLE.search(caption):
            raise MinidalleError('a caption is needed, for instance "a red car on the grass"')
        if candidates < 1:
            raise MinidalleError(f"{candidates} candidates: draw at least 1")
        keep = min(4, candidates) if keep is None else keep
        if not 1 <= keep <= candidates:
            raise MinidalleError(f"keep {keep} of {candidates} candidates: from 1 to all of them")
        unseen = self.unseen(caption)
        if unseen:
            warnings.warn(f"never seen in training: {', '.join(unseen)}", stacklevel=2)
        chosen = replace(self.sampling, **{k: v for k, v in sampling.items() if v is not None})
        codes, images = self.candidates(caption, candidates, seed, chosen, prime, progress)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the prior's reading has told of a cut already
            text = self.tokenizer.batch([caption], self.clip.config.text_length)
        order, scores = rerank(self.clip, images, text.to(self.device))
        order = order[:keep]
        pictures = (images[order] * 255).round().byte().permute(0, 2, 3, 1)
        grid = self.dvae.config.grid
        return Ranked(
            caption,
            pictures.cpu().numpy(),
            scores[:keep].cpu().numpy(),
            codes[order].reshape(-1, grid, grid).cpu().numpy(),
            order.cpu().numpy(),
        )


def default_bundle() -> Path:
    """The bundle that ships: inside an installed wheel, or in data/ of a checkout."""
    here = Path(__file__).parent
    inside = here / "bundle"
    return inside if inside.exists() else here.parent / "data" / "bundle"
