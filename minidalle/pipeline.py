"""MiniDALLE: one bundle, from a caption to ranked pictures.

    caption ─ tokenizer ─ prior ─ codes ─ dVAE ─ pictures ─ CLIP ─ ranked pictures

A bundle holds the tokenizer, the three models with their configs, the sampling settings and the
words that training used (`bundle.py`), so nothing can disagree with the training.
"""

import io
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minidalle.bundle import Bundle, config_from_dict, default_bundle, load_bundle, save_bundle
from minidalle.clip import CLIP, rerank
from minidalle.contact_sheet import strip
from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.normalise import CONTROLS, EXTEND, HAN, MARKS, normalise_caption, quote, shorten
from minidalle.prior import Prior
from minidalle.sampling import SamplingConfig, candidate_generators, sample_codes
from minidalle.tensors import pick_device, to_uint8
from minidalle.tokenizer import Tokenizer

# A Chinese character, a run of other letters and digits with the marks on them, or a pictograph.
_LETTER = rf"[^\W_{HAN}]"
WORD = re.compile(
    rf"[{HAN}][{MARKS}]*|{_LETTER}(?:{_LETTER}|[{EXTEND}])*|[\u2600-\u27bf\U0001f300-\U0001faff]"
)


@dataclass(frozen=True)
class Ranked:
    """Pictures of one caption, best first."""

    caption: str  # as it was asked for
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

    def save_images(self, folder: str | Path) -> list[Path]:
        """Write each picture as a PNG of its own, best first, and return their paths.

        They are named 00.png, 01.png and so on. The folder is made. A file that exists is never
        overwritten: its number is passed over. Raises MinidalleError.
        """
        folder, paths, number = Path(folder), list[Path](), 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for image in self.images:
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                while not _write_new(folder / f"{number:02d}.png", png.getvalue()):
                    number += 1
                paths.append(folder / f"{number:02d}.png")
        except OSError as error:
            raise MinidalleError(
                f"cannot write pictures into {folder}: {error.strerror or error}; choose another"
                " folder"
            ) from error
        return paths


def _write_new(path: Path, data: bytes) -> bool:
    """Write a file that is not there yet; False if there is one. What failed is not left behind."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def distinct_first(codes: Tensor, near: int = 3) -> list[int]:
    """The rows of n × N codes in their order, but twins go to the end.

    A twin differs in at most `near` codes from an earlier row: whoever asks for four pictures wants
    four different ones.
    """
    distinct: list[int] = []
    twins: list[int] = []
    for row in range(len(codes)):
        differing = (codes[distinct] != codes[row]).sum(1)
        (twins if (differing <= near).any() else distinct).append(row)
    return distinct + twins


class MiniDALLE:
    """A trained DALL·E, ready to draw."""

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
        self.dvae, self.prior, self.clip = dvae, prior, clip
        for model in (dvae, prior, clip):
            model.to(self.device).eval().requires_grad_(False)
        self.sampling = SamplingConfig(**info.get("sampling", {}))
        self.words = frozenset(info.get("words", ()))

    # --- On disk ----------------------------------------------------------------------------------

    @classmethod
    def load(cls, bundle: str | Path | None = None, device: str | None = None) -> "MiniDALLE":
        """Load a bundle; without a name, the one that ships with the package.

        Raises MinidalleError for one that is missing, damaged or of another release.
        """
        directory = Path(bundle) if bundle else default_bundle()
        if (directory / "bundle").is_dir():  # the --out of a training
            directory = directory / "bundle"
        parts = load_bundle(directory)
        sampling = parts.info.get("sampling", {})
        config_from_dict(SamplingConfig, sampling, f"{directory}: the sampling")
        return cls(*parts, device=pick_device(device))

    def save(self, directory: str | Path) -> Path:
        """Write the bundle and return its directory. Raises MinidalleError."""
        parts = Bundle(self.tokenizer, self.dvae, self.prior, self.clip, self.info)
        return save_bundle(directory, parts)

    # --- Drawing ----------------------------------------------------------------------------------

    def unseen(self, caption: str) -> list[str]:
        """The words of a caption that training never used: their effect is a guess."""
        words = WORD.findall(normalise_caption(caption))
        return [w for w in dict.fromkeys(words) if self.words and w not in self.words]

    @torch.no_grad()
    def candidates(
        self,
        caption: str,
        n: int = 32,
        seed: int = 0,
        sampling: SamplingConfig | None = None,
        prime: Tensor | None = None,
        evidence: Tensor | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
    ) -> tuple[Tensor, Tensor]:
        """Draw n pictures of a caption: codes, n × N, and images, n 3 H W in [0, 1].

        prime: the first p codes of every candidate, in raster order; with whole rows of a picture's
        codes, the candidates complete that picture. evidence: what is known of each cell, N × K
        (`editing`). Warns of a caption that is cut.
        """
        length = self.prior.config.text_length
        text = self.tokenizer.batch([caption], length).to(self.device)
        uncond = self.tokenizer.empty_captions(1, length).to(self.device)
        given = None if prime is None else prime.reshape(1, -1).expand(n, -1)
        generators = candidate_generators(seed, n)
        sampling = sampling or self.sampling
        steps = sample_codes(self.prior, text, uncond, sampling, generators, given, evidence)
        codes = deque(progress(steps), maxlen=1).pop()  # the last has all of them
        grid = self.dvae.config.grid
        return codes, self.dvae.decode(codes.reshape(-1, grid, grid))

    def text_for_clip(self, caption: str) -> Tensor:
        """The caption as CLIP reads it, int64 1 T.

        Warns of a cut that only CLIP makes. Where the prior cuts as well, `candidates` warns.
        """
        length, prior = self.clip.config.text_length, self.prior.config.text_length
        tokens = len(self.tokenizer.encode(normalise_caption(caption)))
        if length < tokens <= prior:
            warnings.warn(
                f"CLIP ranks by the first {length} of the caption's {tokens} tokens; the prior"
                " reads all of them",
                stacklevel=3,
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one warning is enough
            return self.tokenizer.batch([caption], length).to(self.device)

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

        Pictures that are all but equal to a better one come after all others (`distinct_first`).

        keep: 4 by default, or all if there are fewer candidates.
        prime: codes of the first rows, which every candidate keeps: the picture is completed.
        sampling: temperature, top_k, top_p, guidance; the bundle's settings by default.

        The models read the caption normalised (`normalise_caption`); the result keeps it as it was.
        Warns of words never seen in training, once of a caption that was cut, and of one with
        control characters, which is read without them: they may have shown another text than the
        models read, reversed for instance. Other changes of spelling keep the words, and need no
        warning.
        Raises MinidalleError.
        """
        read = normalise_caption(caption)
        if not read:
            raise MinidalleError('a caption is needed; try "a red car on the grass"')
        if candidates < 1:
            raise MinidalleError(f"candidates must be at least 1, got {candidates}")
        keep = min(4, candidates) if keep is None else keep
        if not 1 <= keep <= candidates:
            raise MinidalleError(f"keep must be from 1 to the {candidates} candidates, got {keep}")
        if CONTROLS.search(caption):
            warnings.warn(f"control characters left out; read as {quote(read)}", stacklevel=2)
        unseen = self.unseen(caption)
        if unseen:
            words = shorten(", ".join(unseen))
            warnings.warn(f"never seen in training: {words}", stacklevel=2)
        chosen = replace(self.sampling, **{k: v for k, v in sampling.items() if v is not None})
        text = self.text_for_clip(caption)
        codes, images = self.candidates(caption, candidates, seed, chosen, prime, progress=progress)
        order, scores = rerank(self.clip, images, text)
        places = distinct_first(codes[order])[:keep]
        order, scores = order[places], scores[places]
        grid = self.dvae.config.grid
        return Ranked(
            caption,
            to_uint8(images[order]),
            scores.cpu().numpy(),
            codes[order].reshape(-1, grid, grid).cpu().numpy(),
            order.cpu().numpy(),
        )
