"""Drawn diagrams of what each chapter teaches, one function each: `diagrams.pipeline()`.

canvas       boxes, arrows, grids, brackets and labels
examples     the pictures and codes that diagrams show
system       pipeline, rerank_funnel, error_split
latent       three_autoencoders, gumbel_softmax
dvae         residual_block, picture_to_codes, nearest_prototype
text         bpe_tree, stream_and_targets
attention    attention_head, stream_masks, kv_cache
transformer  transformer_block
contrast     guidance, clip_towers
editing      evidence, hole_in_raster_order, noisy_channel
own_pictures growing, splits_by_concept
overfitting  generalisation_gap, dropout_masks, pruned_matrix, sign_step, grid_and_random
responsible  where_bias_enters, tempered_shares, balanced_sampling, exposure_of_a_canary, course_map

Each returns a `Picture` with its alternative text. Facts such as masks, shapes and weights are
computed from the package. A module is imported when its first diagram is drawn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidalle.lab.diagrams.attention import attention_head, kv_cache, stream_masks
    from minidalle.lab.diagrams.contrast import clip_towers, guidance
    from minidalle.lab.diagrams.dvae import nearest_prototype, picture_to_codes, residual_block
    from minidalle.lab.diagrams.editing import evidence, hole_in_raster_order, noisy_channel
    from minidalle.lab.diagrams.latent import gumbel_softmax, three_autoencoders
    from minidalle.lab.diagrams.own_pictures import growing, splits_by_concept
    from minidalle.lab.diagrams.overfitting import (
        dropout_masks,
        generalisation_gap,
        grid_and_random,
        pruned_matrix,
        sign_step,
    )
    from minidalle.lab.diagrams.responsible import (
        balanced_sampling,
        course_map,
        exposure_of_a_canary,
        tempered_shares,
        where_bias_enters,
    )
    from minidalle.lab.diagrams.system import error_split, pipeline, rerank_funnel
    from minidalle.lab.diagrams.text import bpe_tree, stream_and_targets
    from minidalle.lab.diagrams.transformer import transformer_block

_HOMES = {
    "attention_head": "attention",
    "balanced_sampling": "responsible",
    "bpe_tree": "text",
    "clip_towers": "contrast",
    "course_map": "responsible",
    "dropout_masks": "overfitting",
    "error_split": "system",
    "evidence": "editing",
    "exposure_of_a_canary": "responsible",
    "generalisation_gap": "overfitting",
    "grid_and_random": "overfitting",
    "growing": "own_pictures",
    "guidance": "contrast",
    "gumbel_softmax": "latent",
    "hole_in_raster_order": "editing",
    "kv_cache": "attention",
    "nearest_prototype": "dvae",
    "noisy_channel": "editing",
    "picture_to_codes": "dvae",
    "pipeline": "system",
    "pruned_matrix": "overfitting",
    "rerank_funnel": "system",
    "residual_block": "dvae",
    "sign_step": "overfitting",
    "splits_by_concept": "own_pictures",
    "stream_and_targets": "text",
    "stream_masks": "attention",
    "tempered_shares": "responsible",
    "three_autoencoders": "latent",
    "transformer_block": "transformer",
    "where_bias_enters": "responsible",
}
__all__ = [
    "attention_head", "balanced_sampling", "bpe_tree", "clip_towers", "course_map", "dropout_masks",
    "error_split", "evidence", "exposure_of_a_canary", "generalisation_gap", "grid_and_random",
    "growing", "guidance", "gumbel_softmax", "hole_in_raster_order", "kv_cache",
    "nearest_prototype", "noisy_channel", "picture_to_codes", "pipeline", "pruned_matrix",
    "rerank_funnel", "residual_block", "sign_step", "splits_by_concept", "stream_and_targets",
    "stream_masks", "tempered_shares", "three_autoencoders", "transformer_block",
    "where_bias_enters",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a diagram's module when the diagram is first used."""
    if name not in _HOMES:
        raise AttributeError(f"no diagram {name!r}; there are: {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
