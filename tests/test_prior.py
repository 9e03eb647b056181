"""The prior: nothing leaks from the future, and the loss is what the paper says."""

import math

import pytest
import torch
from torch import nn

from minidalle import prior as module
from minidalle.attention import MASKS, stream_mask
from minidalle.errors import MinidalleError
from minidalle.prior import Prior, PriorConfig
from minidalle.tokenizer import Tokenizer

WORDS, T, K, GRID = 11, 4, 7, 3
N = GRID**2
TINY = PriorConfig(
    vocab_size=WORDS, text_length=T, codes=K, grid=GRID, width=16, layers=3, heads=2, kernel=3
)
STACKS = [*([kind] for kind in MASKS), ["row", "column", "convolutional"]]


LATER = {"rotary": True, "qk_norm": True, "look_size": 12}  # what the paper does not have


@pytest.fixture(
    params=[(stack, later) for stack in STACKS for later in ({}, LATER)],
    ids=lambda param: "-".join([*param[0], *param[1]]),
)
def prior(request, monkeypatch):
    """One layer of each mask, and a stack of several, as in the paper and with later ideas; every
    weight is random and far from zero."""
    stack, later = request.param
    monkeypatch.setattr(module, "layer_kinds", lambda layers: stack)
    return loud(Prior(PriorConfig(**{**vars(TINY), "layers": len(stack), **later})))


def loud(prior):
    torch.manual_seed(0)
    for p in prior.parameters():
        nn.init.normal_(p, std=0.3)
    if prior.config.look_size:
        prior.set_looks(torch.randn(K, prior.config.look_size))
    return prior.double().eval()


def pairs(batch, words=(4, 2, 0, 1, 3)):
    """Captions of so many words, then padding of its own at each position; and their codes."""
    generator = torch.Generator().manual_seed(1)
    text = torch.arange(WORDS, WORDS + T).repeat(batch, 1)
    for row, n in zip(text, words, strict=False):
        row[:n] = torch.randint(WORDS, (n,), generator=generator)
    return text, torch.randint(K, (batch, N), generator=generator)


# The stream --------------------------------------------------------------------------------------
def test_a_code_sees_the_past_only(prior):
    """Catches a mask that leaks the future ("the loss nosedives"), and codes shifted by one."""
    text, codes = pairs(2)
    text_logits, code_logits = prior.logits(text, codes)
    for p in range(N):
        changed = codes.clone()
        changed[:, p] = (changed[:, p] + 1) % K
        new_text, new_code = prior.logits(text, changed)
        assert torch.equal(new_text, text_logits)
        assert torch.equal(new_code[:, : p + 1], code_logits[:, : p + 1])
        if p + 1 < N:
            assert not torch.equal(new_code[:, p + 1], code_logits[:, p + 1])


def test_a_text_token_sees_the_past_only(prior):
    """Catches text that reads ahead, text positions sliced off by one, and captions unread."""
    text, codes = pairs(2)
    text_logits, code_logits = prior.logits(text, codes)
    for t in range(T):
        changed = text.clone()
        changed[:, t] = (changed[:, t] + 1) % WORDS
        new_text, new_code = prior.logits(changed, codes)
        assert torch.equal(new_text[:, : t + 1], text_logits[:, : t + 1])
        if t + 1 < T:
            assert not torch.equal(new_text[:, t + 1], text_logits[:, t + 1])
        assert (new_code != code_logits).any(-1).all()  # every code looks at all of the caption


def test_jacobian_reaches_exactly_what_the_masks_allow(prior):
    """Catches masks laid one position beside the stream, and masks given to the wrong layer."""
    seen = []
    prior.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits = [part[0] for part in prior.logits(*pairs(1))]
    rows = [row.square().sum() for part in logits for row in part]
    gradients = [torch.autograd.grad(row, seen[0], retain_graph=True)[0][0] for row in rows]
    reached = torch.stack([g.abs().sum(-1) > 0 for g in gradients])  # outputs × inputs
    expected = torch.eye(T + N)
    for kind in prior.kinds:  # what one layer sees of what the layers below have seen
        expected = stream_mask(kind, 1 + T, GRID, TINY.kernel)[:-1, :-1].float() @ expected
    assert torch.equal(reached, expected > 0)


def test_positions_and_padding_are_embedded_one_by_one(prior):
    """Catches rows swapped with columns, a position that restarts, and one shared padding token."""
    text, codes = pairs(5)
    texts, pictures = prior.embed_text(text), prior.embed_codes(codes)
    for b in range(5):
        assert torch.equal(texts[b, 0], prior.start)
        for t in range(T):
            token = prior.text_token.weight[text[b, t]] + prior.text_position.weight[t]
            assert torch.equal(texts[b, 1 + t], token)
        for p in range(N):
            place = prior.code_vectors()[codes[b, p]] + prior.row.weight[p // GRID]
            torch.testing.assert_close(pictures[b, p], place + prior.column.weight[p % GRID])
    assert torch.equal(prior.embed_codes(codes[:, 4:6], first=4), pictures[:, 4:6])
    assert len(prior.text_token.weight) == WORDS + T


def test_codes_that_look_alike_are_alike_but_for_their_own_vectors():
    """Catches looks that reach only the input or only the head, and a look of another code."""
    prior = loud(Prior(PriorConfig(**{**vars(TINY), "look_size": 12})))
    looks = torch.randn(K, 12).double()
    looks[5] = looks[2]
    prior.set_looks(looks)
    vectors, heads = prior.code_vectors(), prior.head_vectors()
    for joined, own in ((vectors, prior.code_token.weight), (heads, prior.code_head.weight)):
        shared = joined - own
        torch.testing.assert_close(shared[5], shared[2])
        assert (shared[4] - shared[2]).abs().max() > 0.1
    text, codes = pairs(2)
    expected = prior.transformer(prior.embed(text, codes), prior.masks(0, T + N))[:, T:] @ heads.T
    torch.testing.assert_close(prior.logits(text, codes)[1], expected)


def test_looks_are_saved_with_the_weights():
    """Catches a prior that draws other pictures once it is loaded."""
    config = PriorConfig(**{**vars(TINY), "look_size": 12})
    prior, again = loud(Prior(config)), Prior(config).double().eval()
    again.load_state_dict(prior.state_dict())
    text, codes = pairs(2)
    assert torch.equal(again.logits(text, codes)[1], prior.logits(text, codes)[1])


@pytest.mark.parametrize("batch", [1, 3])
def test_cached_logits_equal_uncached(prior, batch):
    """Catches a cache, a mask row or a position embedding that is one step behind."""
    text, codes = pairs(batch)
    expected = prior.logits(text, codes)[1]
    caches, logits = prior.prefill(text)
    torch.testing.assert_close(logits, expected[:, 0], rtol=0, atol=1e-10)
    for p in range(N - 1):
        logits = prior.decode_step(codes[:, p], p, caches)
        torch.testing.assert_close(logits, expected[:, p + 1], rtol=0, atol=1e-10)


def test_a_row_is_the_same_in_any_company(prior):
    """Catches anything that is averaged, padded or masked over the batch."""
    text, codes = pairs(5)
    together = prior.logits(text, codes)
    for b in range(5):
        alone = prior.logits(text[b : b + 1], codes[b : b + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_of_them[b], rtol=0, atol=1e-12)


# The loss ----------------------------------------------------------------------------------------
def nll(logits, target):
    """−ln softmax, in Python."""
    return math.log(sum(math.exp(x) for x in logits)) - logits[target]


def test_loss_equals_the_loops():
    """Catches weights swapped, targets shifted, padding counted, one mean over both parts."""
    prior, (text, codes) = loud(Prior(TINY)), pairs(5)
    text_logits, code_logits = (part.tolist() for part in prior.logits(text, codes))
    words, picture = [], []
    for b in range(5):
        for t in range(T):
            if text[b, t] < WORDS:
                words.append(nll(text_logits[b][t], text[b, t]))
        for p in range(N):
            picture.append(nll(code_logits[b][p], codes[b, p]))
    losses = prior(text, codes)
    text_loss, image_loss = sum(words) / len(words), sum(picture) / len(picture)
    assert len(words) == 4 + 2 + 0 + 1 + 3
    assert losses.text.item() == pytest.approx(text_loss, rel=1e-5)
    assert losses.image.item() == pytest.approx(image_loss, rel=1e-5)
    assert losses.total.item() == pytest.approx(text_loss / 8 + image_loss * 7 / 8, rel=1e-5)


def test_padding_has_no_part_in_the_text_loss(monkeypatch):
    """Catches a model that is rewarded for telling where captions end, on most of its tokens."""
    prior, (text, codes) = loud(Prior(TINY)), pairs(5)
    logits = torch.randn(5, T, WORDS, requires_grad=True)
    monkeypatch.setattr(prior, "logits", lambda *_: (logits, torch.randn(5, N, K)))
    prior(text, codes).text.backward()
    assert torch.equal(logits.grad.abs().sum(-1) > 0, text < WORDS)


def test_an_empty_caption_adds_nothing_to_the_text_loss():
    """Catches 0/0, and a text loss that the share of empty captions in a batch makes smaller."""
    prior, (text, codes) = loud(Prior(TINY)), pairs(3)
    assert (text[2] >= WORDS).all()
    with_empty, without = prior(text, codes), prior(text[:2], codes[:2])
    assert with_empty.text.item() == pytest.approx(without.text.item(), rel=1e-6)
    alone = prior(text[2:], codes[2:])
    assert alone.text.item() == 0
    alone.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in prior.parameters())


def test_the_null_caption_is_all_padding():
    """Catches guidance against a caption that training has never called empty."""
    tokenizer = Tokenizer.train(["a red cat", "a red hat"], vocab_size=259)
    null = tokenizer.empty_captions(2, T)
    assert null.tolist() == [[tokenizer.vocab_size + t for t in range(T)]] * 2
    assert torch.equal(null, tokenizer.batch(["", ""], T))
    prior = loud(Prior(PriorConfig(**{**vars(TINY), "vocab_size": tokenizer.vocab_size})))
    losses = prior(null, pairs(2)[1])
    assert losses.text.item() == 0 and losses.image.isfinite()


def test_one_batch_is_learned_by_heart_and_by_its_captions():
    """Catches gradients that are cut, targets that no input predicts, and captions unread."""
    torch.manual_seed(0)
    prior = Prior(PriorConfig(**{**vars(TINY), "width": 32}))
    text, codes = pairs(4, words=(4, 3, 2, 4))
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(120):
        losses = prior(text, codes)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert prior(text, codes).image < 0.01
    assert prior(text.roll(1, 0), codes).image > 0.1


# What a user can get wrong -----------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        {"text_weight": 1.0},
        {"text_weight": -0.1},
        {"heads": 3},
        {"heads": 8, "rotary": True},
    ],
)
def test_a_wrong_shape_is_refused(change):
    """Catches a prior that trains on captions alone, or dies of a shape far from its cause."""
    with pytest.raises(MinidalleError, match=r"text_weight|heads"):
        Prior(PriorConfig(**{**vars(TINY), **change}))
