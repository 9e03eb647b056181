"""Masks and attention against loops written from the definitions; cached against uncached."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minidalle.attention import (
    MASKS,
    Attention,
    KVCache,
    layer_kinds,
    rotary_angles,
    rotate,
    stream_mask,
)
from minidalle.errors import MinidalleError

stream = {
    "kind": st.sampled_from(MASKS),
    "text": st.integers(0, 5),
    "grid": st.integers(1, 5),
    "kernel": st.sampled_from([1, 3, 5, 7, 11]),
}


# The slow reference: one query, one key at a time ------------------------------------------------
def slow_mask(kind, text, grid, kernel):
    reach = range(-(kernel // 2), kernel // 2 + 1)

    def sees(i, j):
        (row, column), (key_row, key_column) = divmod(i - text, grid), divmod(j - text, grid)
        if j > i or j < text:
            return j <= i
        return {
            "causal": True,
            "row": j in range(i - grid, i + 1),  # the W codes before it, and itself
            "column": key_column == column,
            "convolutional": row - key_row in reach and column - key_column in reach,
        }[kind]

    positions = range(text + grid**2)
    return torch.tensor([[sees(i, j) for j in positions] for i in positions])


def slow_attention(module, x, mask, context=None):
    """Per head, per query, summed in Python; x, the mask and the context are lists."""
    width = len(x[0][0])
    d, heads = width // module.heads, module.heads
    weight, bias = module.qkv.weight.tolist(), module.qkv.bias.tolist()

    def project(vector, part, head):  # part 0, 1, 2: query, key, value
        rows = range(part * width + head * d, part * width + (head + 1) * d)
        return [bias[r] + sum(w * v for w, v in zip(weight[r], vector, strict=True)) for r in rows]

    result = []
    for sequence, other in zip(x, context or x, strict=True):
        result.append([])
        for i, vector in enumerate(sequence):
            joined = []
            for head in range(heads):
                q = project(vector, 0, head)
                seen = [j for j in range(len(other)) if mask is None or mask[i][j]]
                keys = [project(other[j], 1, head) for j in seen]
                values = [project(other[j], 2, head) for j in seen]
                e = [math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / d**0.5) for k in keys]
                joined += [
                    sum(w * v[n] for w, v in zip(e, values, strict=True)) / sum(e) for n in range(d)
                ]
            result[-1].append(joined)
    return torch.tensor(result, dtype=torch.float64) @ module.out.weight.T + module.out.bias


def attention(width, heads):
    torch.manual_seed(0)
    module = Attention(width, heads).double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.5)  # biases too, so that each of them counts
    return module


# Rotary positions, and normalised queries and keys -----------------------------------------------
def test_rotary_angles_equal_the_loops():
    """Catches rows swapped with columns, frequencies in another order, text inside the picture."""
    text, grid, d = 3, 4, 12
    angles = rotary_angles(text, grid, d)
    assert angles.shape == (text + grid * grid, d // 2)
    for position in range(text + grid * grid):
        row, column = divmod(position - text, grid) if position >= text else (-3, position)
        expected = [place * 1.5**-j for place in (row, column) for j in range(d // 4)]
        assert angles[position].tolist() == pytest.approx(expected)


def test_a_score_depends_on_the_distance_only():
    """Catches a rotation of the wrong pairs, and one that changes lengths."""
    grid, d = 6, 8
    q, k = torch.randn(2, d, dtype=torch.float64)
    angles = rotary_angles(0, grid, d).double()
    score = rotate(q.expand(grid**2, d), angles) @ rotate(k.expand(grid**2, d), angles).T
    by_distance = {}
    for i in range(grid**2):
        for j in range(grid**2):
            apart = (i // grid - j // grid, i % grid - j % grid)
            by_distance.setdefault(apart, []).append(score[i, j].item())
    assert all(max(same) - min(same) < 1e-5 for same in by_distance.values())
    assert len({round(same[0], 4) for same in by_distance.values()}) > 100
    torch.testing.assert_close(rotate(q, angles[7]).norm(), q.norm())


def test_normalised_queries_and_keys_bound_the_scores():
    """Catches a norm on the values, on one of the two only, or over all heads at once."""
    torch.manual_seed(0)
    module = Attention(8, 2, qk_norm=True).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    expected = module.weights(x)
    module.qkv.weight.data[:8] *= 100.0
    module.qkv.weight.data[8:16] *= 10.0
    module.qkv.bias.data[:8] *= 100.0
    module.qkv.bias.data[8:16] *= 10.0
    torch.testing.assert_close(module.weights(x), expected, rtol=0, atol=1e-3)
    first = module.qkv.weight.data[:4].clone()
    module.qkv.weight.data[:4] = -first  # the queries of the first head alone
    module.qkv.bias.data[:4] *= -1
    assert (module.weights(x)[:, 0] - expected[:, 0]).abs().max() > 0.01
    torch.testing.assert_close(module.weights(x)[:, 1], expected[:, 1], rtol=0, atol=1e-3)


# Masks -------------------------------------------------------------------------------------------
@given(**stream)
@settings(max_examples=150, deadline=None)
def test_mask_equals_the_loops(kind, text, grid, kernel):
    """Catches a mask off by one code, by one row, or by the length of the text."""
    assert torch.equal(stream_mask(kind, text, grid, kernel), slow_mask(kind, text, grid, kernel))


@given(**stream)
@settings(max_examples=50, deadline=None)
def test_mask_is_causal_and_sees_itself_and_all_earlier_text(kind, text, grid, kernel):
    """Catches a leak of the future, a query that sees nothing (NaN), and hidden captions."""
    mask = stream_mask(kind, text, grid, kernel)
    assert not mask.triu(1).any()
    assert mask.diagonal().all()
    assert torch.equal(mask[:, :text], torch.ones_like(mask).tril()[:, :text])


DRAWN = {  # what the code in row 2, column 1 of a 4 × 4 picture sees (figure 11 of the paper)
    "causal": ["XXXX", "XXXX", "XX..", "...."],
    "row": ["....", ".XXX", "XX..", "...."],
    "column": [".X..", ".X..", ".X..", "...."],
    "convolutional": ["....", "XXX.", "XX..", "...."],
}


@pytest.mark.parametrize("kind", MASKS)
def test_mask_looks_as_drawn_by_hand(kind):
    """Catches a misconception that the fast mask and the slow one would share."""
    seen = stream_mask(kind, text=6, grid=4, kernel=3)[6 + 9, 6:].reshape(4, 4)
    assert ["".join(".X"[int(s)] for s in row) for row in seen] == DRAWN[kind]


def test_layer_kinds_are_in_the_papers_order():
    """Catches counting layers from 0: column where (i-2) mod 4 = 0, i = 1, 2, …."""
    assert layer_kinds(1) == ["convolutional"]
    assert layer_kinds(5) == ["row", "column", "row", "row", "convolutional"]
    kinds = dict(enumerate(layer_kinds(64), start=1))
    assert [i for i in kinds if kinds[i] == "column"] == list(range(2, 64, 4))
    assert [i for i in kinds if kinds[i] == "convolutional"] == [64]
    assert set(kinds.values()) == {"row", "column", "convolutional"}


# Attention ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [None, *MASKS])
@pytest.mark.parametrize(("width", "heads"), [(6, 1), (6, 2), (6, 3), (4, 4)])
def test_attention_equals_the_loops(kind, width, heads):
    """Catches mixed heads, swapped q/k/v, 1/√D for 1/√d, an inverted or a transposed mask."""
    module = attention(width, heads)
    mask = None if kind is None else stream_mask(kind, text=2, grid=2, kernel=3)
    x = torch.randn(2, 6, width, dtype=torch.float64)
    expected = slow_attention(module, x.tolist(), mask if mask is None else mask.tolist())
    torch.testing.assert_close(module(x, mask), expected, rtol=0, atol=1e-12)


@given(
    kind=st.sampled_from(MASKS),
    cuts=st.sets(st.integers(1, 11)),
    batch=st.integers(1, 3),
    n=st.integers(1, 3),
)
@example(kind="row", cuts=set(range(1, 12)), batch=2, n=2)
@settings(max_examples=40, deadline=None)
def test_cache_equals_uncached_however_the_stream_is_cut(kind, cuts, batch, n):
    """Catches a cache that overwrites, forgets, or deals its copies to the wrong captions."""
    module, mask = attention(8, 2), stream_mask(kind, text=3, grid=3, kernel=3)
    edges = [0, *sorted(cuts), 12]
    x = torch.randn(batch, 12, 8, dtype=torch.float64)
    x = x.repeat_interleave(n, 0)  # n candidates a caption, alike up to the first cut …
    x[:, edges[1] :] = torch.randn(batch * n, 12 - edges[1], 8, dtype=torch.float64)  # … then not
    cache = KVCache(batch, 2, 12, 4, x)
    outputs = [module(x[::n, : edges[1]], mask[: edges[1], : edges[1]], cache)]
    outputs[0] = outputs[0].repeat_interleave(n, 0)
    cache.repeat(n)
    for start, end in pairwise(edges[1:]):
        outputs.append(module(x[:, start:end], mask[start:end, :end], cache))
    torch.testing.assert_close(torch.cat(outputs, 1), module(x, mask), rtol=0, atol=1e-12)


# Cross-attention ---------------------------------------------------------------------------------
@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 3, 7])
def test_cross_attention_equals_the_loops(heads, length):
    """Catches keys or values of the stream, queries of the context, mixed heads, and a mask that is
    inverted or of another caption."""
    module = attention(6, heads)
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    context = torch.randn(2, length, 6, dtype=torch.float64)
    seen = torch.tensor([[True] * length, [True] + [False] * (length - 1)])
    expected = torch.cat([
        slow_attention(module, x[b : b + 1].tolist(), [seen[b].tolist()] * 4,
                       context[b : b + 1].tolist())
        for b in range(2)
    ])  # fmt: skip
    found = module(x, seen[:, None, None], context=context)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    weights = module.weights(x, seen[:, None, None], context=context)
    assert weights.shape == (2, heads, 4, length)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert (weights.transpose(1, 3)[~seen] == 0).all()


def test_a_context_equal_to_the_stream_is_self_attention():
    """Catches other weights, or other norms, for the same keys: bit for bit is not asked."""
    torch.manual_seed(0)
    module = Attention(8, 2, qk_norm=True).double()
    torch.nn.init.normal_(module.k_norm.weight)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(module(x, context=x), module(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(module.weights(x, context=x), module.weights(x), rtol=0, atol=1e-12)


@given(batch=st.integers(1, 3), n=st.integers(1, 3), length=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_context_is_read_once_and_serves_n_candidates(batch, n, length):
    """Catches candidates that are dealt to others' captions, and a context that is read again or
    copied."""
    module = attention(8, 2)
    x = torch.randn(batch * n, 3, 8, dtype=torch.float64)
    context = torch.randn(batch, length, 8, dtype=torch.float64)
    seen = torch.rand(batch, 1, 1, length) < 0.5
    seen[..., 0] = True
    expected = module(x, seen.repeat_interleave(n, 0), context=context.repeat_interleave(n, 0))
    cache = KVCache(batch, 2, 3, 4, x)
    first = module(x[::n, :1], seen, cache, context=context)
    torch.testing.assert_close(first, expected[::n, :1], rtol=0, atol=1e-12)
    cache.repeat(n)
    for i in range(3):
        step = module(x[:, i : i + 1], seen, cache, context=context * math.nan)
        torch.testing.assert_close(step, expected[:, i : i + 1], rtol=0, atol=1e-12)
    assert all(part.shape == (batch, 2, length, 4) for part in cache.context)
    assert cache.length == 0  # what the stream has said is kept apart


# What a user can get wrong -----------------------------------------------------------------------
def test_unknown_mask_is_refused():
    """Catches a misspelt mask that falls back to another in silence."""
    with pytest.raises(MinidalleError, match=r"'rows'.*causal, row, column, convolutional"):
        stream_mask("rows", 2, 2)


def test_heads_that_do_not_divide_the_width_are_refused():
    """Catches a head that is cut short or left out."""
    with pytest.raises(MinidalleError, match=r"10.*3 heads"):
        Attention(10, 3)
