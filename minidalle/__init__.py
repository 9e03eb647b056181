"""minidalle: DALL·E (2021) step by step, at a size that a laptop trains.

    from minidalle import MiniDALLE
    ranked = MiniDALLE.load().generate("a red car on the grass", candidates=32, keep=4, seed=0)
    ranked.save("pictures.png")

The modules of the lesson, in reading order; each imports only those above it:

    tokenizer      captions become tokens: byte-level BPE
    quantize       features become discrete codes: Gumbel-softmax, straight-through, VQ, FSQ
    residual       convolutional residual blocks, of which the dVAE is made
    dvae           pictures become a grid of codes, and codes become pictures
    attention      scaled dot-product attention, masks, the KV cache
    transformer    a stack of blocks
    prior          one stream of caption and picture, and its loss
    sampling       temperature, top-k, top-p, guidance
    clip           two towers, the contrastive loss, reranking
    bundle         the trained parts on the disk
    pipeline       MiniDALLE: from a caption to ranked pictures
    editing        drawing given what is known of a picture: inpainting, repair
    describing     from a picture to its caption, by Bayes' rule

What they stand on: errors (the one exception a user can fix), files (written whole or not at all),
tensors (devices, precision, pictures to tensors), normalise (captions in one spelling),
contact_sheet (labelled strips of pictures).

The rooms around them; imports go from right to left only:

    world < datasets < baselines < training < evaluation < lab < cli
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidalle.errors import MinidalleError
    from minidalle.pipeline import MiniDALLE
    from minidalle.training import presets
    from minidalle.world import judge
    from minidalle.world.storybook import Storybook

__version__ = "0.1.0"
__all__ = ["MiniDALLE", "MinidalleError", "Storybook", "judge", "presets"]
_HOMES = {
    "MiniDALLE": "minidalle.pipeline",
    "MinidalleError": "minidalle.errors",
    "Storybook": "minidalle.world.storybook",
    "judge": "minidalle.world",
    "presets": "minidalle.training",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes two seconds, `--help` should not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'minidalle' has no attribute {name!r}")
    home = _HOMES[name]
    if name in ("judge", "presets"):
        return import_module(f"{home}.{name}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
