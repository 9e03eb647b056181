"""CLIP: the loss against plain numpy, both of its halves, and the ranking."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minidalle.clip import CLIP, CLIPConfig, contrastive_loss, rerank, retrieval_at_1
from minidalle.errors import MinidalleError

WORDS, T = 9, 4
TINY = CLIPConfig(vocab_size=WORDS, text_length=T, image_size=8, patch=4, width=16, image_layers=2,
                  text_layers=2, heads=2, embedding=8)  # fmt: skip


def clip():
    torch.manual_seed(0)
    return CLIP(TINY)


def pairs(batch):
    torch.manual_seed(1)
    return torch.rand(batch, 3, 8, 8), torch.randint(WORDS, (batch, T))


def units(batch, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, width, generator=generator, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def numpy_loss(image, text, scale):
    """The slow reference: one row and one column at a time."""
    logits = scale * image @ text.T
    rows = [np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(logits)]
    columns = [np.log(np.exp(column).sum()) - column[i] for i, column in enumerate(logits.T)]
    right = [np.argmax(row) == i for i, row in enumerate(logits)]
    return (np.mean(rows) + np.mean(columns)) / 2, np.mean(rows), np.mean(columns), np.mean(right)


# The loss ----------------------------------------------------------------------------------------
@given(batch=st.integers(1, 7), scale=st.floats(0, 20), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_loss_equals_numpy(batch, scale, seed):
    """Catches a wrong axis, sum for mean, and a scale that divides or is left out."""
    image, text = units(batch, seed=seed), units(batch, seed=seed + 100)
    losses = contrastive_loss(image, text, torch.tensor(scale, dtype=torch.float64))
    expected = numpy_loss(image.numpy(), text.numpy(), scale)
    for name, value, right in zip(losses._fields, losses, expected, strict=True):
        if name == "accuracy" and scale < 1e-6:  # all alike: any caption may come first
            continue
        assert value.item() == pytest.approx(right, rel=1e-6, abs=1e-9), name


def test_loss_is_symmetric_and_cares_for_pairs_not_for_their_order():
    """Catches a one-sided loss, and targets that are places in the batch and not partners."""
    image, text, scale = units(6), units(6, seed=1), torch.tensor(5.0)
    losses, swapped = contrastive_loss(image, text, scale), contrastive_loss(text, image, scale)
    torch.testing.assert_close(swapped.total, losses.total)
    torch.testing.assert_close(swapped.image_to_text, losses.text_to_image)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(contrastive_loss(image[order], text[order], scale), losses)
    assert not contrastive_loss(image[order], text, scale).total.isclose(losses.total, rtol=1e-3)


def test_vectors_all_alike_lose_ln_b():
    """Catches a loss that rewards collapse."""
    same = units(1).expand(5, -1)
    losses = contrastive_loss(same, same, torch.tensor(10.0))
    for value in losses[:3]:
        assert value.item() == pytest.approx(math.log(5))


def test_both_halves_count():
    """Catches a one-sided loss: every picture finds its caption, but caption 0 finds picture 1."""
    logits, scale = torch.tensor([[1.0, 0.0], [9.0, 10.0]]), torch.tensor(10.0)
    losses = contrastive_loss(logits, torch.eye(2), scale)
    assert losses.image_to_text < 1e-4 and losses.accuracy == 1
    assert losses.text_to_image.item() == pytest.approx(40)
    assert losses.total.item() == pytest.approx(20, abs=1e-3)
    mirrored = contrastive_loss(logits.T, torch.eye(2), scale)
    assert mirrored.total.item() == pytest.approx(20, abs=1e-3) and mirrored.accuracy == 0.5


# The towers --------------------------------------------------------------------------------------
def test_towers_give_unit_vectors_whatever_their_scale():
    """Catches a missing normalisation: CLIP would learn length, and rank by it."""
    model, (images, text) = clip(), pairs(3)
    before = model(images, text)
    for vectors in (model.encode_image(images), model.encode_text(text)):
        assert vectors.shape == (3, TINY.embedding)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    with torch.no_grad():
        model.image_tower.project.weight.mul_(50)
        model.text_tower.project.weight.mul_(0.1)
    torch.testing.assert_close(model(images, text), before)


def test_forward_is_the_loss_of_both_towers_at_the_learned_scale():
    """Catches towers swapped, and a temperature that is not exp(s), starting at 1/0.07."""
    model, (images, text) = clip(), pairs(3)
    vectors = model.encode_image(images), model.encode_text(text)
    for s, scale in [(None, 1 / 0.07), (math.log(3), 3.0), (math.log(500), TINY.max_scale)]:
        if s is not None:
            model.logit_scale.data.fill_(s)
        expected = contrastive_loss(*vectors, torch.tensor(scale))
        torch.testing.assert_close(model(images, text), expected)


def test_towers_know_places():
    """Catches a bag of words or of patches: a missing position, or pixels cut across patches."""
    model, (images, text) = clip(), pairs(1)
    text[0] = torch.arange(T)
    assert not torch.allclose(model.encode_text(text), model.encode_text(text.flip(1)), atol=1e-4)
    moved = images.roll(4, dims=3)
    assert not torch.allclose(model.encode_image(images), model.encode_image(moved), atol=1e-4)
    for row in range(8):
        for column in range(8):
            touched = images.clone()
            touched[0, :, row, column] += 1
            changed = (model.patches(touched) != model.patches(images)).any(-1)[0]
            assert changed.nonzero().tolist() == [[row // 4 * 2 + column // 4]]


def test_gradient_reaches_both_towers_and_the_scale():
    """Catches a tower that is detached, and a temperature that is not learned."""
    model, (images, text) = clip(), pairs(6)
    model(images, text).total.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.any(), name


def test_scale_comes_down_again_from_its_ceiling():
    """Catches a clamp that cuts the gradient: once past the ceiling, s would never learn again."""
    model, (images, text) = clip(), pairs(6)
    model.logit_scale.data.fill_(math.log(2 * TINY.max_scale))
    model(images, text).total.backward()
    assert model.logit_scale.grad > 0  # random pairs are better off when less sure


def test_one_batch_is_learned_by_heart():
    """Catches all that leaves the loss at ln B while every shape is right."""
    model, (images, text) = clip(), pairs(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(240):  # of eight first weights that were tried, one was not there after 160
        losses = model(images, text)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    losses = model(images, text)
    assert losses.total < 0.01 and losses.accuracy == 1


# Ranking -----------------------------------------------------------------------------------------
SAME = SimpleNamespace(encode_image=lambda x: x, encode_text=lambda x: x)  # vectors pass through


def test_rerank_puts_the_nearest_first():
    """Catches worst-first, and a ranking by another caption than the one that was asked for."""
    images, text = units(8), units(1, seed=1)
    order, similarity = rerank(SAME, images, text)
    expected = sorted(range(8), key=lambda i: -float(images[i] @ text[0]))
    assert order.tolist() == expected
    torch.testing.assert_close(similarity, images[expected] @ text[0])


def test_rerank_keeps_the_order_of_equals():
    """Catches an unstable sort, whose pictures change from one machine to the next."""
    values = torch.randint(3, (300,), generator=torch.Generator().manual_seed(0)).float()
    order, _ = rerank(SAME, values[:, None], torch.ones(1, 1))
    assert order.tolist() == sorted(range(300), key=lambda i: -values[i])  # sorted() is stable


def test_retrieval_with_known_answers():
    """Catches pools that mix, a last pool that counts, and captions that look for pictures."""
    text = torch.eye(3).repeat(3, 1)[:8]  # across pools the captions are alike
    assert retrieval_at_1(text, text, pool=3) == 1
    wrong_in_first = text[[1, 0, 2, 3, 4, 5, 6, 7]]
    assert retrieval_at_1(wrong_in_first, text, pool=3) == pytest.approx(4 / 6)
    wrong_in_last = text[[0, 1, 2, 3, 4, 5, 7, 6]]
    assert retrieval_at_1(wrong_in_last, text, pool=3) == 1
    one_sided = torch.tensor([[1.0, 0.0], [9.0, 10.0]])
    assert retrieval_at_1(one_sided, torch.eye(2), pool=2) == 1
    assert retrieval_at_1(one_sided.T, torch.eye(2), pool=2) == 0.5


# What a user can get wrong -----------------------------------------------------------------------
def test_patches_that_do_not_tile_the_image_are_refused():
    """Catches an image whose edge is cut off in silence."""
    with pytest.raises(MinidalleError, match=r"60.*patch 8"):
        CLIPConfig(image_size=60, patch=8)
