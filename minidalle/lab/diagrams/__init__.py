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
masking      cells_in_view, hidden_shares, near_and_far, independent_cells, passes_over_a_picture
crossing     where_text_enters, cross_attention, who_sees_whom, context_cache
adversarial  adversarial_game, best_discriminator, pulls_of_losses, projection_discriminator,
             one_gaussian_for_two
flows        flow_paths, guided_flows, great_circle, unclip_parts, picture_denoiser
responsible  where_bias_enters, tempered_shares, balanced_sampling, exposure_of_a_canary,
             course_map

Each returns a `Picture` with its alternative text. Facts such as masks, shapes and weights are
computed from the package. A module is imported when its first diagram is drawn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidalle.lab.diagrams.adversarial import (
        adversarial_game,
        best_discriminator,
        one_gaussian_for_two,
        projection_discriminator,
        pulls_of_losses,
    )
    from minidalle.lab.diagrams.attention import attention_head, kv_cache, stream_masks
    from minidalle.lab.diagrams.contrast import clip_towers, guidance
    from minidalle.lab.diagrams.crossing import (
        context_cache,
        cross_attention,
        where_text_enters,
        who_sees_whom,
    )
    from minidalle.lab.diagrams.dvae import nearest_prototype, picture_to_codes, residual_block
    from minidalle.lab.diagrams.editing import evidence, hole_in_raster_order, noisy_channel
    from minidalle.lab.diagrams.flows import (
        flow_paths,
        great_circle,
        guided_flows,
        picture_denoiser,
        unclip_parts,
    )
    from minidalle.lab.diagrams.latent import gumbel_softmax, three_autoencoders
    from minidalle.lab.diagrams.masking import (
        cells_in_view,
        hidden_shares,
        independent_cells,
        near_and_far,
        passes_over_a_picture,
    )
    from minidalle.lab.diagrams.overfitting import (
        dropout_masks,
        generalisation_gap,
        grid_and_random,
        pruned_matrix,
        sign_step,
    )
    from minidalle.lab.diagrams.own_pictures import growing, splits_by_concept
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
    "adversarial_game": "adversarial",
    "attention_head": "attention",
    "balanced_sampling": "responsible",
    "best_discriminator": "adversarial",
    "bpe_tree": "text",
    "cells_in_view": "masking",
    "clip_towers": "contrast",
    "context_cache": "crossing",
    "course_map": "responsible",
    "cross_attention": "crossing",
    "dropout_masks": "overfitting",
    "error_split": "system",
    "evidence": "editing",
    "exposure_of_a_canary": "responsible",
    "flow_paths": "flows",
    "generalisation_gap": "overfitting",
    "great_circle": "flows",
    "grid_and_random": "overfitting",
    "growing": "own_pictures",
    "guidance": "contrast",
    "guided_flows": "flows",
    "gumbel_softmax": "latent",
    "hidden_shares": "masking",
    "hole_in_raster_order": "editing",
    "independent_cells": "masking",
    "kv_cache": "attention",
    "near_and_far": "masking",
    "nearest_prototype": "dvae",
    "noisy_channel": "editing",
    "one_gaussian_for_two": "adversarial",
    "passes_over_a_picture": "masking",
    "picture_denoiser": "flows",
    "picture_to_codes": "dvae",
    "pipeline": "system",
    "projection_discriminator": "adversarial",
    "pruned_matrix": "overfitting",
    "pulls_of_losses": "adversarial",
    "rerank_funnel": "system",
    "residual_block": "dvae",
    "sign_step": "overfitting",
    "splits_by_concept": "own_pictures",
    "stream_and_targets": "text",
    "stream_masks": "attention",
    "tempered_shares": "responsible",
    "three_autoencoders": "latent",
    "transformer_block": "transformer",
    "unclip_parts": "flows",
    "where_bias_enters": "responsible",
    "where_text_enters": "crossing",
    "who_sees_whom": "crossing",
}
__all__ = [
    "adversarial_game", "attention_head", "balanced_sampling", "best_discriminator", "bpe_tree",
    "cells_in_view", "clip_towers", "context_cache", "course_map", "cross_attention",
    "dropout_masks", "error_split", "evidence", "exposure_of_a_canary", "flow_paths",
    "generalisation_gap", "great_circle", "grid_and_random", "growing", "guidance", "guided_flows",
    "gumbel_softmax", "hidden_shares", "hole_in_raster_order", "independent_cells", "kv_cache",
    "near_and_far", "nearest_prototype", "noisy_channel", "one_gaussian_for_two",
    "passes_over_a_picture", "picture_denoiser", "picture_to_codes", "pipeline",
    "projection_discriminator", "pruned_matrix", "pulls_of_losses", "rerank_funnel",
    "residual_block", "sign_step", "splits_by_concept", "stream_and_targets", "stream_masks",
    "tempered_shares", "three_autoencoders", "transformer_block", "unclip_parts",
    "where_bias_enters", "where_text_enters", "who_sees_whom",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a diagram's module when the diagram is first used."""
    if name not in _HOMES:
        raise AttributeError(f"no diagram {name!r}; there are: {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
