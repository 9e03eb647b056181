"""TensorBoard: curves of the losses, and now and then a look at the model's work.

    tensorboard --logdir OUT/tensorboard

    dvae     held-out pictures above their reconstructions, and how many codes are in use
    prior    pictures drawn for held-out captions
    clip     the similarity of 16 held-out pictures (rows) and captions (columns)

The package `tensorboard` is an extra; nothing else of minidalle needs it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from minidalle.clip import CLIP
from minidalle.datasets.source import bilingual_caption
from minidalle.dvae import DVAE
from minidalle.errors import MinidalleError
from minidalle.prior import Prior
from minidalle.quantize import usage
from minidalle.sampling import SamplingConfig, candidate_generators, sample_codes
from minidalle.tensors import to_tensor
from minidalle.training import distributed
from minidalle.training.run import TrainingRun
from minidalle.training.trainer import Record

SCALE = 4  # screen pixels per pixel: TensorBoard would smear small pictures
NUM_SHOWN = 8  # held-out pictures


class TensorBoard:
    """Writes what a stage of a run does into OUT/tensorboard/STAGE.

    Raises MinidalleError where the package is missing.
    """

    def __init__(self, run: TrainingRun, stage: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MinidalleError(
                "--tensorboard needs one more package: pip install -e '.[tensorboard]', or pip"
                " install tensorboard"
            ) from error
        self.run, self.stage = run, stage
        self._open = lambda step: SummaryWriter(str(folder(run.out) / stage), purge_step=step)
        self._writer: Any = None

    def add(self, record: Record) -> None:
        """One point of every curve."""
        if self._writer is None:  # points of a run that was killed after its last checkpoint go
            self._writer = self._open(record.step)
        scalars = {f"loss/{name}": value for name, value in record.losses.items()}
        if record.validation is not None:
            scalars["loss/validation"] = record.validation
        scalars |= {
            "training/lr": record.lr,
            "training/grad_norm": record.grad_norm,
            "training/images_per_second": record.images_per_second,
        }
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, record.step)

    def look(self, step: int) -> None:
        """Pictures of what the newest checkpoint can do."""
        if distributed.world_size() > 1:  # to load it, all processes would have to wait here
            return
        model = self.run.snapshot(self.stage)
        with torch.no_grad():
            if isinstance(model, DVAE):
                self._look_at_dvae(model, step)
            elif isinstance(model, Prior):
                self._look_at_prior(model, step)
            elif isinstance(model, CLIP):
                self._look_at_clip(model, step)
        self._writer.flush()

    def _look_at_dvae(self, model: DVAE, step: int) -> None:
        images = self._held_out(64)
        codes = model.encode(images)
        both = torch.stack([images, model.decode(codes)])[:, :NUM_SHOWN]
        self._show("reconstructions", rearrange(both, "r n c h w -> c (r h) (n w)"), step)
        counts = torch.bincount(codes.flatten(), minlength=model.config.codes)
        self._writer.add_scalar("codes/used", usage(counts).used, step)
        self._writer.add_scalar("codes/perplexity", usage(counts).perplexity, step)

    def _look_at_prior(self, model: Prior, step: int) -> None:
        dvae, tokenizer = self.run.model("dvae"), self.run.tokenizer()
        assert isinstance(dvae, DVAE)
        length, drawn, captions = model.config.text_length, [], self._captions(NUM_SHOWN // 2)
        for caption in captions:
            text = tokenizer.batch([caption], length).to(self.run.device)
            empty = tokenizer.empty_captions(1, length).to(self.run.device)
            *_, codes = sample_codes(
                model, text, empty, SamplingConfig(), candidate_generators(0, 2)
            )
            drawn.append(dvae.decode(rearrange(codes, "n (h w) -> n h w", h=model.config.grid)))
        self._show("drawings", rearrange(torch.stack(drawn), "m n c h w -> c (n h) (m w)"), step)
        lines = "\n".join(f"{i + 1}. {caption}" for i, caption in enumerate(captions))
        self._writer.add_text("captions of the columns", lines, step)

    def _look_at_clip(self, model: CLIP, step: int) -> None:
        n = 2 * NUM_SHOWN
        text = self.run.tokenizer().batch(self._captions(n), model.config.text_length)
        similarity = model.encode_image(self._held_out(n)) @ model.encode_text(
            text.to(self.run.device)
        ).T  # fmt: skip
        self._show("similarity", (similarity[None].expand(3, -1, -1) + 1) / 2, step, 8 * SCALE)

    def _held_out(self, n: int) -> Tensor:
        pictures = [self.run.source.image("validation", i) for i in range(n)]
        return to_tensor(pictures, self.run.device)

    def _captions(self, n: int) -> list[str]:
        return [bilingual_caption(self.run.source, "validation", i) for i in range(n)]

    def _show(self, name: str, image: Tensor, step: int, scale: int = SCALE) -> None:
        """image: 3 H W in [0, 1], shown in whole pixels."""
        pixels = image.cpu().numpy().repeat(scale, 1).repeat(scale, 2)
        self._writer.add_image(name, np.clip(pixels, 0, 1), step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def folder(out: Path) -> Path:
    """Where the files for TensorBoard of a run are."""
    return out / "tensorboard"
