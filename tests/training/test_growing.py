"""Growing: more tokens and codes, and nothing lost of what was learnt."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch

from minidalle.bundle import load_bundle
from minidalle.clip import CLIP
from minidalle.datasets.source import FolderSource
from minidalle.dvae import DVAE
from minidalle.prior import Prior
from minidalle.tensors import to_tensor
from minidalle.tokenizer import Tokenizer
from minidalle.training.growing import grow_clip, grow_dvae, grow_prior, grow_tokenizer
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.stage import Inputs
from minidalle.world.storybook import Storybook

CPU, SMOKE = torch.device("cpu"), replace(preset("smoke"), new_tokens=50, new_codes=32)
pytestmark = pytest.mark.filterwarnings("ignore:caption cut")
WORDS = ["a hedgehog", "two hedgehogs", "刺猬", "a purple hedgehog", "一只刺猬"]


class Stripes:
    """Stands in for a CaptionedImageFolder of pictures that look like nothing in the storybook."""

    image_size, digest = 48, "0" * 64

    def split(self, validation, test):
        return list(range(20)), list(range(20, 24)), []

    def image(self, i):
        image = np.zeros((48, 48, 3), np.uint8)
        image[:, (i % 2) :: 2] = 255
        image[:, :, i % 3] //= 2
        return image

    def caption(self, i):
        return WORDS[i % len(WORDS)]


@pytest.fixture(scope="module")
def grown(smoke_bundle):
    """The smoke bundle's parts, and the same after growing for stripes."""
    old, source = load_bundle(smoke_bundle), FolderSource(Stripes())
    tokenizer = grow_tokenizer(old.tokenizer, WORDS * 3, SMOKE.new_tokens)
    given = Inputs(source, SMOKE, CPU, tokenizer)
    dvae = grow_dvae(old.dvae, given)
    given = given._replace(dvae=dvae)
    return old, tokenizer, dvae, grow_prior(old.prior, given), grow_clip(old.clip, given)


def test_the_tokenizer_keeps_its_tokens(grown):
    old, tokenizer, *_ = grown
    assert tokenizer.merges[: len(old.tokenizer.merges)] == old.tokenizer.merges
    assert old.tokenizer.vocab_size < tokenizer.vocab_size <= old.tokenizer.vocab_size + 50
    assert len(tokenizer.encode("a hedgehog")) < len(old.tokenizer.encode("a hedgehog"))
    same = grow_tokenizer(old.tokenizer, WORDS, 0)
    assert same.merges == old.tokenizer.merges


def test_going_on_with_the_same_captions_is_training_longer():
    """The reference: a training that was never interrupted."""
    book = Storybook()
    captions = [book.caption("train", i, ("en", "zh")[i % 2]) for i in range(200)]
    first = Tokenizer.train(captions, 300)
    assert grow_tokenizer(first, captions, 60).merges == Tokenizer.train(captions, 360).merges


def test_the_dvae_draws_the_new_pictures_better_and_the_old_ones_as_before(grown):
    old, _, dvae, *_ = grown
    assert dvae.config.codes == old.dvae.config.codes + 32
    book, stripes = Storybook(), Stripes()

    def error(model, images):
        x = to_tensor(images, CPU)
        with torch.no_grad():
            return (model.decode(model.encode(x)) - x).square().mean().item()

    new = [stripes.image(i) for i in range(6)]
    known = [book.image("train", i) for i in range(6)]
    model = old.dvae.eval(), dvae.eval()
    assert error(model[1], new) < 0.5 * error(model[0], new)
    assert error(model[1], known) <= 1.01 * error(model[0], known)
    codes = torch.arange(36).reshape(1, 6, 6).repeat(1, 2, 2)
    assert torch.equal(model[0].decode(codes), model[1].decode(codes))


def test_the_prior_says_the_same_of_old_tokens_and_codes(grown):
    """Catches rows that moved: padding read as words, codes with another code's vector."""
    old, tokenizer, dvae, prior, _ = grown
    small, big = old.prior.eval(), prior.eval()
    length, caption = small.config.text_length, "a red car on the grass"
    ids = old.tokenizer.batch([caption], length)
    shifted = torch.where(ids < small.config.vocab_size, ids, ids + prior.config.vocab_size
                          - small.config.vocab_size)  # fmt: skip
    codes = torch.randint(small.config.codes, (1, 144), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        text, image = small.logits(ids, codes)
        text_2, image_2 = big.logits(shifted, codes)
    assert torch.allclose(text, text_2[..., : text.shape[-1]], atol=1e-4)
    assert torch.allclose(image, image_2[..., : image.shape[-1]], atol=5e-3)
    assert torch.equal(tokenizer.empty_captions(1, length)[0], shifted[0].new_tensor(
        range(tokenizer.vocab_size, tokenizer.vocab_size + length)))  # fmt: skip
    assert image_2.shape[-1] == dvae.config.codes and torch.isfinite(image_2).all()


def test_a_new_token_begins_between_the_two_that_it_merges(grown):
    old, tokenizer, _, prior, clip = grown
    first = old.tokenizer.vocab_size
    left, right = tokenizer.merges[first - 256]
    for model, name in ((prior, "text_token"), (prior, "text_head"), (clip, "token_embedding")):
        rows = getattr(model, name).weight
        assert torch.allclose(rows[first], (rows[left] + rows[right]) / 2)


def test_clip_reads_old_captions_as_before(grown):
    old, tokenizer, _, _, clip = grown
    length = old.clip.config.text_length
    ids = old.tokenizer.batch(["a red car on the grass"], length)
    more = tokenizer.vocab_size - old.tokenizer.vocab_size
    shifted = torch.where(ids < old.tokenizer.vocab_size, ids, ids + more)
    with torch.no_grad():
        before, after = old.clip.eval().encode_text(ids), clip.eval().encode_text(shifted)
    assert torch.allclose(before, after, atol=1e-6)


def test_a_run_from_a_bundle_grows_all_parts(smoke_bundle, tmp_path):
    """Catches parts that grow apart, and a grown bundle that cannot be saved or loaded."""
    init = load_bundle(smoke_bundle)
    chosen = SMOKE.with_training("dvae", "prior", "clip", steps=2, warmup_steps=0)
    chosen = chosen.with_training("clip", batch_size=3)
    run = TrainingRun(chosen, FolderSource(Stripes()), tmp_path, CPU, init)
    for stage in ("tokenizer", "dvae", "prior", "clip"):
        deque(run.train(stage), maxlen=0)
    bundle = load_bundle(run.assemble())
    assert bundle.tokenizer.vocab_size == bundle.prior.config.vocab_size
    assert bundle.clip.config.vocab_size == bundle.tokenizer.vocab_size > init.tokenizer.vocab_size
    assert bundle.prior.config.codes == bundle.dvae.config.codes == init.dvae.config.codes + 32
    assert {"hedgehog", "刺", "car"} <= set(bundle.info["words"])
    assert (type(bundle.dvae), type(bundle.prior), type(bundle.clip)) == (DVAE, Prior, CLIP)
