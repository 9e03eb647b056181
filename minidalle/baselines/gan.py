"""A text-conditional GAN: a caption and noise become a picture in one pass, without codes.

    generator       G(caption, z) = picture,   z ~ N(0, 1)
    discriminator   D(picture, caption) = w · φ + caption · φ,   φ = features of the picture

D's second term projects the features on the caption's vector (Miyato and Koyama 2018, §3): one part
of the score asks whether the picture is real, the other whether it shows the caption. D sees real
pairs, fakes, and real pictures with wrong captions (Reed et al. 2016, §4.2):

    D minimises   hinge(real) + 0.7 · hinge(fakes) + 0.3 · hinge(mismatches) + R1 penalty
    G minimises   −E[ D(G(caption, z), caption) ]

Both are updated at once, from one backward pass. G's loss takes D's weights as constants, and D's
loss takes the fakes as constants. The losses and the penalty are in `adversarial`.

Shapes: B batch, T text tokens, D width of captions, C channels, Z noise, h w grid.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from minidalle.baselines.adversarial import hinge, r1_penalty
from minidalle.errors import MinidalleError, check_fields
from minidalle.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class GANConfig:
    """The shape of both networks, and the weights of the discriminator's losses."""

    vocab_size: int = 2048  # text tokens, padding left out: the tokenizer's
    text_length: int = 32  # T, tokens a caption is padded or cut to
    image_size: int = 48  # pixels across a picture, a multiple of 8
    noise: int = 32  # Z, dimensions of the noise
    width: int = 48  # C, channels on the grid of image_size / 4; twice as many on one half as fine
    text_width: int = 64  # D, of captions, of styles, and of the features of a picture
    text_layers: int = 2
    heads: int = 4
    fake_share: float = 0.7  # weight of fakes in D's loss, 0..1; mismatches have the rest
    r1_weight: float = 0.3  # of the R1 penalty (γ)
    r1_every: int = 16  # steps between two R1 penalties, each of which counts as many times

    def __post_init__(self) -> None:
        check_fields(
            self, vocab_size=(1, 1_000_000), text_length=(1, 4096), image_size=(8, 4096),
            noise=(1, 65_536), width=(8, 65_536), text_width=(1, 65_536), text_layers=(1, 1000),
            heads=(1, 1024), fake_share=(0, 1), r1_weight=(0, 1e6), r1_every=(1, 1e6),
        )  # fmt: skip
        for name, value in (("image_size", self.image_size), ("width", self.width)):
            if value % 8:
                raise MinidalleError(f"{name} must be a multiple of 8, got {value}; try 48")


class GANLosses(NamedTuple):
    """Scalars. The total is the sum of two opponents' losses, so it need not fall."""

    total: Tensor
    generator: Tensor
    discriminator: Tensor  # hinge losses, the penalty left out
    r1: Tensor  # the weighted penalty; 0 at steps without it
    real: Tensor  # mean score of real pairs
    fake: Tensor  # mean score of fakes
    mismatched: Tensor  # mean score of real pictures with wrong captions


class TextEncoder(nn.Module):
    """Captions, B T ids, to vectors, B D: the lesson's transformer, the mean over words, and batch
    norm. Without that norm all vectors become alike: D uses what they share to detect fakes."""

    def __init__(self, c: GANConfig) -> None:
        super().__init__()
        self.num_words, std = c.vocab_size, c.text_width**-0.5
        self.token_embedding = nn.Embedding(c.vocab_size + c.text_length, c.text_width)
        nn.init.normal_(self.token_embedding.weight, std=std)
        self.position = nn.Parameter(std * torch.randn(c.text_length, c.text_width))
        self.transformer = Transformer(c.text_width, c.text_layers, c.heads, std=std)
        self.norm = nn.BatchNorm1d(c.text_width, affine=False)

    def forward(self, text: Tensor) -> Tensor:
        y = self.transformer(self.token_embedding(text) + self.position)  # B T D
        is_word = (text < self.num_words)[..., None]
        return self.norm((y * is_word).sum(1) / is_word.sum(1).clamp(min=1))


class ModulatedGroupNorm(nn.Module):
    """(1 + γ(s)) · group norm(x) + β(s) for x, B C h w, and style s, B D (Dumoulin et al. 2017)."""

    def __init__(self, channels: int, style: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, affine=False)
        self.modulation = nn.Linear(style, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, bias = self.modulation(style)[..., None, None].chunk(2, dim=1)  # B C 1 1 each
        return (1 + gain) * self.norm(x) + bias


class GeneratorBlock(nn.Module):
    """A residual block: B C h w → B C' h w, or B C' 2h 2w."""

    def __init__(self, c_in: int, c_out: int, style: int, up: bool) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = ModulatedGroupNorm(c_in, style), ModulatedGroupNorm(c_out, style)
        self.up = nn.Upsample(scale_factor=2) if up else nn.Identity()
        self.conv_1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv_2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        y = self.conv_1(self.up(self.norm_1(x, style).relu()))
        return self.up(self.skip(x)) + self.conv_2(self.norm_2(y, style).relu())


class Generator(nn.Module):
    """Captions, B D, and noise, B Z, to images in [0, 1], B 3 H W."""

    def __init__(self, c: GANConfig) -> None:
        super().__init__()
        d, wide, self.grid = c.text_width, 2 * c.width, c.image_size // 8
        self.style = nn.Sequential(nn.Linear(d + c.noise, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())
        self.start = nn.Linear(d, wide * self.grid**2)
        sizes = [(wide, wide, False), (wide, c.width, True), (c.width, c.width, False)]
        self.blocks = nn.ModuleList(GeneratorBlock(a, b, d, up) for a, b, up in sizes)
        self.norm = nn.GroupNorm(8, c.width)
        self.to_pixels = nn.Conv2d(c.width, 3 * 4**2, 3, padding=1)

    def forward(self, captions: Tensor, noise: Tensor) -> Tensor:
        style = self.style(torch.cat([captions, noise], dim=1))  # B D
        x = self.start(style).unflatten(1, (-1, self.grid, self.grid))  # B 2C h w
        for block in self.blocks:
            x = block(x, style)
        x = self.to_pixels(self.norm(x).relu())  # B 3·4² 2h 2w; full-size convolutions are slow
        return F.pixel_shuffle(x, 4).sigmoid().float()


class Discriminator(nn.Module):
    """Images, B 3 H W, and captions, B D, to scores, B: high for a real pair."""

    def __init__(self, c: GANConfig) -> None:
        super().__init__()
        self.features = nn.Sequential(  # 8 × 8 patches at stride 4, then a grid half as fine
            nn.Conv2d(3, c.width, 8, stride=4, padding=2), nn.LeakyReLU(0.2),
            nn.Conv2d(c.width, 2 * c.width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * c.width, 2 * c.width, 3, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),
            nn.Linear(2 * c.width * (c.image_size // 8) ** 2, c.text_width), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.is_real = nn.Linear(c.text_width, 1)

    def score(self, features: Tensor, captions: Tensor) -> Tensor:
        """Features of pictures and vectors of captions, B D each."""
        projection = (features * captions).sum(1) / features.shape[1] ** 0.5
        return (self.is_real(features)[:, 0] + projection).float()

    def forward(self, images: Tensor, captions: Tensor) -> Tensor:
        return self.score(self.features(2 * images - 1), captions)


class GAN(nn.Module):
    """A generator, a discriminator, and the text encoder of both, which only D's loss trains."""

    lr_ratios: ClassVar[dict[str, float]] = {"discriminator.": 0.5}  # of the learning rate

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = TextEncoder(config)
        self.generator, self.discriminator = Generator(config), Discriminator(config)
        # Torch's own initial weights halve the signal in every layer (He et al. 2015).
        for name, p in self.named_parameters():
            if p.ndim > 1 and not name.startswith("text_encoder."):
                nn.init.kaiming_normal_(p, nonlinearity="relu")
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        self.generator.to_pixels.weight.data *= 0.1  # pictures begin grey

    def forward(self, images: Tensor, text: Tensor, wrong: Tensor, with_r1: bool) -> GANLosses:
        """The losses on images, their captions, and wrong captions of them, B T ids each."""
        c, d = self.config, self.discriminator
        captions, wrong_captions = self.text_encoder(torch.cat([text, wrong])).chunk(2)  # B D each
        given = captions.detach()
        fakes = self.generator(given, torch.randn(len(text), c.noise, device=text.device))
        constant = {name: p.detach() for name, p in d.named_parameters()}
        for_generator = functional_call(d, constant, (fakes, given))
        features = d.features(2 * torch.cat([images, fakes.detach()]) - 1)  # 2B D
        real, fake = (d.score(part, captions) for part in features.chunk(2))
        mismatched = d.score(features[: len(images)], wrong_captions)
        generator = hinge(real, for_generator).generator
        on_fakes, on_mismatches = hinge(real, fake), hinge(real, mismatched)
        discriminator = on_fakes.discriminator.lerp(on_mismatches.discriminator, 1 - c.fake_share)
        r1 = r1_penalty(lambda x: d(x, captions), images) if with_r1 else real.new_zeros(())
        r1 = c.r1_weight * c.r1_every * r1
        scores = (score.mean() for score in (real, fake, mismatched))
        return GANLosses(generator + discriminator + r1, generator, discriminator, r1, *scores)

    def sample_noise(self, generators: list[torch.Generator]) -> Tensor:
        """Noise for `draw`, n Z: one generator on the CPU per candidate."""
        return torch.stack([torch.randn(self.config.noise, generator=g) for g in generators])

    @torch.no_grad()
    def draw(self, text: Tensor, noise: Tensor) -> Tensor:
        """Captions, n T ids, and noise, n Z, to images in [0, 1], n 3 H W."""
        return self.generator(self.text_encoder(text), noise.to(text.device))
