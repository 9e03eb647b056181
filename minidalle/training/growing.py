"""Growing: a trained bundle takes up words and pictures that it has no tokens and no codes for.

Fine-tuning goes on from trained weights. New captions have words that the tokenizer spells letter
by letter, and new pictures have squares that look like no code. So the parts grow first:

    tokenizer    goes on merging pairs, in the new captions; old tokens keep their ids
    dVAE         gets more prototypes, by k-means of the squares that it draws worst
    prior, CLIP  keep the vectors of all old tokens and codes; a new token begins as the mean of the
                 two that it merges, a new code with its look alone

What was learnt stays as it is: old captions and pictures have nearly the same tokens and codes.
"""

from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn

from minidalle.clip import CLIP
from minidalle.dvae import DVAE
from minidalle.prior import Prior
from minidalle.quantize import k_means
from minidalle.tensors import to_tensor
from minidalle.tokenizer import Tokenizer
from minidalle.training.stage import Inputs

MAX_IMAGES = 1000  # in which new prototypes are found


def grow_tokenizer(tokenizer: Tokenizer, captions: list[str], new_tokens: int) -> Tokenizer:
    """The same tokenizer with up to `new_tokens` more merges, learnt from captions."""
    return Tokenizer.train(captions, tokenizer.vocab_size + new_tokens, tokenizer.merges)


@torch.no_grad()
def grow_dvae(trained: DVAE, given: Inputs) -> DVAE:
    """The same dVAE with `new_codes` more codes, whose prototypes are the k-means of the squares
    that the old ones miss most. A dVAE without prototypes stays as it is."""
    config, more = trained.config, given.preset.new_codes if trained.config.prototypes else 0
    model = DVAE(replace(config, codes=config.codes + more)).to(given.device)
    state = dict(trained.state_dict())
    if more:
        n = min(MAX_IMAGES, given.source.epoch or MAX_IMAGES)
        images = to_tensor([given.source.crowded_image(i) for i in range(n)], given.device)
        squares = rearrange(trained.encoder(2 * images - 1), "b d h w -> (b h w) d")
        squares, counts = squares.unique(dim=0, return_counts=True)
        old = trained.prototypes.to(given.device)
        misses = torch.cat([torch.cdist(s, old).amin(1) for s in squares.split(4096)])
        weights = counts.float().sqrt() * misses + 1e-9
        repeats = -(-more // len(squares))  # fewer squares than codes: some codes are equal
        new = k_means(squares.repeat(repeats, 1), weights.repeat(repeats), more)
        vectors = torch.zeros(more, config.code_width, device=given.device)
        vectors[:, : new.shape[1]] = new
        state["prototypes"] = torch.cat([old, new])
        state["quantizer.codebook"] = torch.cat([state["quantizer.codebook"].to(new), vectors])
    model.load_state_dict(state)
    return model


@torch.no_grad()
def grow_prior(trained: Prior, given: Inputs) -> Prior:
    """The same prior for a tokenizer with more tokens and a dVAE with more codes."""
    assert given.tokenizer and given.dvae
    old, codes = trained.config, given.dvae.config.codes
    model = Prior(replace(old, vocab_size=given.tokenizer.vocab_size, codes=codes))
    state = dict(trained.state_dict())
    for name in ("text_token.weight", "text_head.weight"):
        state[name] = _grow_tokens(state[name], old.vocab_size, given.tokenizer)
    for name in ("code_token.weight", "code_head.weight"):
        state[name] = _append(state[name], codes - old.codes)
    if old.look_size:
        state["looks"] = _append(state["looks"], codes - old.codes)
    model.load_state_dict(state)
    model = model.to(given.device)
    if old.look_size:  # in the units that the old looks have
        model.set_looks(given.dvae.looks(), reference=old.codes)
    return model


@torch.no_grad()
def grow_clip(trained: CLIP, given: Inputs) -> CLIP:
    """The same CLIP for a tokenizer with more tokens."""
    assert given.tokenizer
    old, name = trained.config, "token_embedding.weight"
    model = CLIP(replace(old, vocab_size=given.tokenizer.vocab_size))
    state = dict(trained.state_dict())
    state[name] = _grow_tokens(state[name], old.vocab_size, given.tokenizer)
    model.load_state_dict(state)
    return model.to(given.device)


def _grow_tokens(rows: Tensor, vocab_size: int, tokenizer: Tokenizer) -> Tensor:
    """Rows of `vocab_size` tokens, and of padding after them, with more tokens between the two."""
    tokens = list(rows[:vocab_size])
    for left, right in tokenizer.merges[vocab_size - 256 :]:
        tokens.append((tokens[left] + tokens[right]) / 2)
    return torch.cat([torch.stack(tokens), rows[vocab_size:]])


def _append(rows: Tensor, more: int) -> Tensor:
    """Rows of zeros after the others."""
    return nn.functional.pad(rows, (0, 0, 0, more))
