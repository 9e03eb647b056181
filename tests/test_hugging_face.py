"""The same weights in Hugging Face's GPT-2 and CLIP give the same numbers: tiny and offline."""

import os

import pytest
import torch
from torch import nn

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import CLIPConfig as TheirConfig
from transformers import CLIPModel, GPT2Config, GPT2Model

from minidalle.attention import stream_mask
from minidalle.clip import CLIP, CLIPConfig, contrastive_loss
from minidalle.prior import Prior, PriorConfig
from minidalle.transformer import Transformer

WIDTH, HEADS, LAYERS = 16, 4, 3


def shaken(model):
    """Every parameter at random, so that none can be forgotten unnoticed; double precision."""
    torch.manual_seed(0)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    return model.double().eval()


def set_(parameter, value):
    assert parameter.shape == value.shape
    parameter.data.copy_(value)


def gpt2(ours: Transformer, positions: int) -> GPT2Model:
    """Our stack's weights in a GPT-2 without positions of its own."""
    theirs = GPT2Model(GPT2Config(
        vocab_size=1, n_positions=positions, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        activation_function="gelu", attn_implementation="eager",
    )).double().eval()  # fmt: skip
    nn.init.zeros_(theirs.wpe.weight)
    for a, b in zip(ours.blocks, theirs.h, strict=True):
        for mine, its in ((a.attention.qkv, b.attn.c_attn), (a.attention.out, b.attn.c_proj),
                          (a.mlp[0], b.mlp.c_fc), (a.mlp[2], b.mlp.c_proj)):  # fmt: skip
            set_(its.weight, mine.weight.T)
            set_(its.bias, mine.bias)
        for mine, its in ((a.norm_1, b.ln_1), (a.norm_2, b.ln_2)):
            set_(its.weight, mine.weight)
            set_(its.bias, mine.bias)
    set_(theirs.ln_f.weight, ours.norm.weight)
    set_(theirs.ln_f.bias, ours.norm.bias)
    return theirs


@torch.no_grad()
def test_the_stack_is_gpt2s():
    """Catches another block, another norm, another activation, heads in another order."""
    ours = shaken(Transformer(WIDTH, LAYERS, HEADS))
    x = torch.randn(2, 11, WIDTH, dtype=torch.float64)
    mask = torch.ones(11, 11, dtype=torch.bool).tril()
    expected = gpt2(ours, 11)(inputs_embeds=x).last_hidden_state
    assert torch.allclose(ours(x, [mask] * LAYERS), expected, atol=1e-10)


@torch.no_grad()
def test_the_priors_logits_are_gpt2s():
    """With causal masks in every layer the whole prior is a GPT-2 over its stream: catches targets
    shifted by one, and heads that read another position."""
    config = PriorConfig(vocab_size=20, text_length=5, codes=12, grid=3, width=WIDTH,
                         layers=LAYERS, heads=HEADS, kernel=3)  # fmt: skip
    prior = shaken(Prior(config))
    prior.kinds = ["row"] * LAYERS
    prior.mask_row = stream_mask("causal", 1 + 5, 3)
    text, codes = torch.randint(25, (2, 5)), torch.randint(12, (2, 9))
    words = torch.cat([prior.start.expand(2, 1, -1),
                       prior.text_token.weight[text] + prior.text_position.weight], 1)  # fmt: skip
    at = torch.arange(8)
    pieces = prior.code_token.weight[codes[:, :8]] + prior.row.weight[at // 3]
    stream = torch.cat([words, pieces + prior.column.weight[at % 3]], 1)
    hidden = gpt2(prior.transformer, 14)(inputs_embeds=stream).last_hidden_state
    text_logits, code_logits = prior.logits(text, codes)
    assert torch.allclose(text_logits, hidden[:, :5] @ prior.text_head.weight.T, atol=1e-10)
    assert torch.allclose(code_logits, hidden[:, 5:] @ prior.code_head.weight.T, atol=1e-10)


@pytest.fixture(scope="module")
def clips():
    """Our CLIP, and theirs with the weights of our picture tower."""
    config = CLIPConfig(vocab_size=20, text_length=6, image_size=12, patch=4, width=WIDTH,
                        heads=HEADS, image_layers=LAYERS, text_layers=1, embedding=8)  # fmt: skip
    ours = shaken(CLIP(config))
    vision = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS,
              "num_hidden_layers": LAYERS, "image_size": 12, "patch_size": 4, "hidden_act": "gelu",
              "layer_norm_eps": 1e-5}  # fmt: skip
    text = {"vocab_size": 20, "hidden_size": WIDTH, "intermediate_size": WIDTH,
            "num_attention_heads": HEADS, "num_hidden_layers": 1}  # fmt: skip
    theirs = CLIPModel(TheirConfig(vision_config=vision, text_config=text, projection_dim=8))
    theirs = theirs.double().eval()
    tower, v = ours.image_tower, theirs.vision_model
    v.pre_layrnorm = nn.Identity()  # theirs has one norm more
    set_(v.embeddings.class_embedding, tower.class_embedding)
    positions = torch.cat([torch.zeros(1, WIDTH), tower.position.detach()])
    set_(v.embeddings.position_embedding.weight, positions)
    linear = ours.patches[1]  # ours sees patches in [-1, 1], with a bias; theirs has none
    set_(v.embeddings.patch_embedding.weight, linear.weight.view(WIDTH, 3, 4, 4))
    v.embeddings.position_embedding.weight.data[1:] += linear.bias.detach()
    for a, b in zip(tower.transformer.blocks, v.encoder.layers, strict=True):
        attention = b.self_attn
        for i, its in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
            set_(its.weight, a.attention.qkv.weight.chunk(3)[i])
            set_(its.bias, a.attention.qkv.bias.chunk(3)[i])
        for mine, its in ((a.attention.out, attention.out_proj), (a.mlp[0], b.mlp.fc1),
                          (a.mlp[2], b.mlp.fc2), (a.norm_1, b.layer_norm1),
                          (a.norm_2, b.layer_norm2)):  # fmt: skip
            set_(its.weight, mine.weight)
            set_(its.bias, mine.bias)
    set_(v.post_layernorm.weight, tower.transformer.norm.weight)
    set_(v.post_layernorm.bias, tower.transformer.norm.bias)
    set_(theirs.visual_projection.weight, tower.project.weight)
    return ours, theirs


@torch.no_grad()
def test_the_picture_tower_is_clips(clips):
    """Catches patches cut or folded otherwise, a summary from another place, a norm left out."""
    ours, theirs = clips
    images = torch.rand(3, 3, 12, 12, dtype=torch.float64)
    hidden = theirs.vision_model(pixel_values=2 * images - 1).pooler_output
    expected = nn.functional.normalize(theirs.visual_projection(hidden), dim=-1)
    # Ours ends in single precision, whatever it came in.
    assert torch.allclose(ours.encode_image(images).double(), expected, atol=1e-6)


@torch.no_grad()
def test_the_loss_is_clips(clips):
    """Catches a loss with one side, a sum for a mean, a scale in another place."""
    _, theirs = clips
    images, text = torch.randn(7, 3, 12, 12, dtype=torch.float64), torch.randint(20, (7, 6))
    out = theirs(input_ids=text, pixel_values=images, return_loss=True)
    ours = contrastive_loss(out.image_embeds, out.text_embeds, theirs.logit_scale.exp())
    assert torch.allclose(ours.total, out.loss)
