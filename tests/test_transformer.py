"""The stack against PyTorch's own encoder layers, and cached against uncached."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from minidalle.attention import MASKS, KVCache, stream_mask
from minidalle.transformer import Transformer

WIDTH, HEADS, LAYERS = 16, 4, 4
STREAM = 3 + 9


def transformer(dropout=0.0, cross=False):
    torch.manual_seed(0)
    model = Transformer(WIDTH, LAYERS, HEADS, dropout, cross=cross).double()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model


def masks():
    """A different one a layer."""
    return [stream_mask(kind, text=3, grid=3, kernel=3) for kind in MASKS]


def oracle(model, x, masks, context=None, seen=None):
    """The same weights in PyTorch's pre-norm layers; there, True in a mask is hidden. With a
    context, of which `seen` is B C, in those of its decoder."""
    kind = nn.TransformerEncoderLayer if context is None else nn.TransformerDecoderLayer
    for block, mask in zip(model.blocks, masks, strict=True):
        layer = kind(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        ).double()
        last = "norm2" if context is None else "norm3"
        names = {
            "self_attn.in_proj_weight": block.attention.qkv.weight,
            "self_attn.in_proj_bias": block.attention.qkv.bias,
            "self_attn.out_proj.weight": block.attention.out.weight,
            "self_attn.out_proj.bias": block.attention.out.bias,
            "linear1.weight": block.mlp[0].weight,
            "linear1.bias": block.mlp[0].bias,
            "linear2.weight": block.mlp[2].weight,
            "linear2.bias": block.mlp[2].bias,
            "norm1.weight": block.norm_1.weight,
            "norm1.bias": block.norm_1.bias,
            f"{last}.weight": block.norm_2.weight,
            f"{last}.bias": block.norm_2.bias,
        }
        mask = None if mask is None else ~mask
        if context is None:
            layer.load_state_dict(names)
            x = layer(x, src_mask=mask)
        else:
            layer.load_state_dict(names | {
                "multihead_attn.in_proj_weight": block.cross_attention.qkv.weight,
                "multihead_attn.in_proj_bias": block.cross_attention.qkv.bias,
                "multihead_attn.out_proj.weight": block.cross_attention.out.weight,
                "multihead_attn.out_proj.bias": block.cross_attention.out.bias,
                "norm2.weight": block.cross_norm.weight,
                "norm2.bias": block.cross_norm.bias,
            })  # fmt: skip
            x = layer(x, context, tgt_mask=mask, memory_key_padding_mask=~seen)
    return nn.functional.layer_norm(x, (WIDTH,), model.norm.weight, model.norm.bias)


@pytest.mark.parametrize("masked", [False, True])
def test_stack_equals_pytorchs_layers(masked):
    """Catches post-norm, a lost residual, a lost last norm, and one mask used for all layers."""
    model = transformer()
    x = torch.randn(2, STREAM, WIDTH, dtype=torch.float64)
    chosen = masks() if masked else None
    expected = oracle(model, x, chosen or [None] * LAYERS)
    torch.testing.assert_close(model(x, chosen), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("edges", [[0, 12], [0, 5, 12], [0, *range(4, 13)]])
def test_cached_stack_equals_uncached(edges):
    """Catches layers that share one cache, or a cache that is handed to the wrong layer."""
    model, chosen = transformer(), masks()
    x = torch.randn(2, STREAM, WIDTH, dtype=torch.float64)
    caches = [KVCache(2, HEADS, STREAM, WIDTH // HEADS, x) for _ in range(LAYERS)]
    outputs = [
        model(x[:, start:end], [m[start:end, :end] for m in chosen], caches)
        for start, end in pairwise(edges)
    ]
    torch.testing.assert_close(torch.cat(outputs, 1), model(x, chosen), rtol=0, atol=1e-10)


def test_dropout_is_of_training_only():
    """Catches dropout that is ignored, or that stays on while pictures are drawn."""
    model = transformer(dropout=0.5)
    x = torch.randn(1, STREAM, WIDTH, dtype=torch.float64)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    torch.testing.assert_close(model(x), oracle(model, x, [None] * LAYERS), rtol=0, atol=1e-10)


def test_what_writes_into_the_residual_stream_starts_smaller():
    """Catches an initialisation whose names no longer match the layers', or PyTorch's default."""
    torch.manual_seed(0)
    model = Transformer(width=64, layers=8, heads=4)
    for block in model.blocks:
        for reads in (block.attention.qkv, block.mlp[0]):
            assert reads.weight.std().item() == pytest.approx(0.02, rel=0.05)
        for writes in (block.attention.out, block.mlp[2]):
            assert writes.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_attention_weights_are_those_of_pytorch():
    """Catches heads that are mixed up, a missing √d, a mask after the softmax, and a layer that is
    shown the stream of another."""
    model, x = transformer(), torch.randn(2, STREAM, WIDTH, dtype=torch.float64)
    for block, mask, told in zip(
        model.blocks, masks(), model.attention_weights(x, masks()), strict=True
    ):
        layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
        layer.in_proj_weight, layer.in_proj_bias = (
            block.attention.qkv.weight,
            block.attention.qkv.bias,
        )
        y = block.norm_1(x)
        _, expected = layer(y, y, y, attn_mask=~mask, average_attn_weights=False)
        assert torch.allclose(told, expected, atol=1e-12)
        assert (told[..., ~mask] == 0).all()
        x = block(x, mask)


def test_attention_weights_without_masks_see_all():
    told = transformer().attention_weights(torch.randn(1, 5, WIDTH, dtype=torch.float64))
    assert len(told) == LAYERS and all((w > 0).all() for w in told)
    assert all(torch.allclose(w.sum(-1), torch.ones((), dtype=w.dtype)) for w in told)


# Cross-attention ---------------------------------------------------------------------------------
def a_context():
    """Two contexts of five vectors, of which the second has three."""
    seen = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    return torch.randn(2, 5, WIDTH, dtype=torch.float64), seen


def test_a_decoder_equals_pytorchs_layers():
    """Catches cross-attention before self-attention, without its norm, its sum or its mask, and one
    layer's context for all."""
    model, x, (context, seen) = transformer(cross=True), torch.randn(2, STREAM, WIDTH), a_context()
    expected = oracle(model, x.double(), masks(), context, seen)
    found = model(x.double(), masks(), context=context, context_mask=seen[:, None, None])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_cached_decoder_equals_uncached():
    """Catches one layer's keys and values of the context in another layer, and a cache in which
    they displace those of the stream."""
    model, chosen, (context, seen) = transformer(cross=True), masks(), a_context()
    x = torch.randn(2, STREAM, WIDTH, dtype=torch.float64)
    kept = {"context": context, "context_mask": seen[:, None, None]}
    caches = [KVCache(2, HEADS, STREAM, WIDTH // HEADS, x) for _ in range(LAYERS)]
    outputs = [
        model(x[:, i : i + 1], [m[i : i + 1, : i + 1] for m in chosen], caches, **kept)
        for i in range(STREAM)
    ]
    torch.testing.assert_close(torch.cat(outputs, 1), model(x, chosen, **kept), rtol=0, atol=1e-10)


def test_cross_attention_weights_are_those_of_pytorch():
    """Catches weights of the self-attention, or of a stream that skipped it."""
    model, x, (context, seen) = transformer(cross=True), torch.randn(2, STREAM, WIDTH), a_context()
    x, kept = x.double(), (context, seen[:, None, None])
    found = model.attention_weights(x, masks(), None, *kept)
    for block, mask, weights in zip(model.blocks, masks(), found, strict=True):
        layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
        layer.in_proj_weight = block.cross_attention.qkv.weight
        layer.in_proj_bias = block.cross_attention.qkv.bias
        y = block.cross_norm(x + block.attention(block.norm_1(x), mask))
        _, expected = layer(y, context, context, ~seen, average_attn_weights=False)
        assert torch.allclose(weights, expected, atol=1e-12)
        x = block(x, mask, None, None, *kept)


def test_a_context_and_cross_attention_go_together():
    """Catches a decoder that draws without its caption, and a caption that nothing reads."""
    x, context = torch.randn(1, 3, WIDTH).double(), torch.randn(1, 2, WIDTH).double()
    with pytest.raises(AssertionError, match="go together"):
        transformer(cross=True)(x)
    with pytest.raises(AssertionError, match="go together"):
        transformer()(x, context=context)


def test_three_sums_a_layer_start_smaller_than_two():
    """Catches cross-attention that the initialisation forgets."""
    torch.manual_seed(0)
    model = Transformer(width=64, layers=3, heads=4, cross=True)
    for block in model.blocks:
        assert block.cross_attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
        for writes in (block.attention.out, block.cross_attention.out, block.mlp[2]):
            assert writes.weight.std().item() == pytest.approx(0.02 / 3, rel=0.05)
        assert (block.cross_attention.out.bias == 0).all()
