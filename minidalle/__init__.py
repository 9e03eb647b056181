"""minidalle: DALL·E (2021) step by step, at a size that a laptop trains.

    from minidalle import MiniDALLE
    ranked = MiniDALLE.load().generate("a red car on the grass", candidates=32, keep=4, seed=0)
    ranked.save("pictures.png")

The modules of the lesson, in reading order; each imports only those above it:

    tokenizer      captions become tokens: byte-level BPE
    quantize       features become discrete codes: Gumbel-softmax, straight-through, VQ
    dvae           pictures become a grid of codes, and codes become pictures
    attention      scaled dot-product attention, masks, the KV cache
    transformer    a stack of blocks
    prior          one stream of caption and picture, and its loss
    sampling       temperature, top-k, top-p, guidance
    clip           two towers, the contrastive loss, reranking
    bundle         the trained parts on the disk
    pipeline       MiniDALLE: from a caption to ranked pictures

What they stand on: errors (the one exception a user can fix), files (written whole or not at all),
tensors (devices, precision, pictures to tensors), contact_sheet (labelled strips of pictures).

The rooms around them; imports go from right to left only:

    world < datasets < baselines < training < evaluation < lab < cli
"""

from minidalle.errors import MinidalleError
from minidalle.pipeline import MiniDALLE
from minidalle.training import presets
from minidalle.world import judge
from minidalle.world.storybook import Storybook

__version__ = "0.1.0"
__all__ = ["MiniDALLE", "MinidalleError", "Storybook", "judge", "presets"]
