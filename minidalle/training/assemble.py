"""From a trained directory to a bundle: the models, and all that must be known to use them."""

from dataclasses import asdict
from pathlib import Path

from minidalle.datasets.source import caption_of
from minidalle.pipeline import WORD, MiniDALLE
from minidalle.training.stages import Stages


def assemble(stages: Stages, directory: Path | None = None) -> Path:
    """Gather the trained stages into one bundle; returns its directory (OUT/bundle)."""
    words = {
        word
        for i in range(max(stages.preset.captions, stages.source.epoch or 0))
        for word in WORD.findall(caption_of(stages.source, "train", i).lower())
    }
    info = {
        "preset": stages.preset.name,
        "source": stages.source.name,
        "sampling": asdict(stages.preset.sampling),
        "words": sorted(words),
    }
    models = {name: stages.model(name).cpu() for name in ("dvae", "prior", "clip")}
    model = MiniDALLE(stages.tokenizer(), **models, info=info, device="cpu")
    return model.save(directory or stages.out / "bundle")
