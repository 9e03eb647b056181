"""Every system behind one door: a caption goes in, pictures come out.

    DALL·E            prior at the run's preset → dVAE, with no reranking
    masked codes      parallel decoding → dVAE
    encoder–decoder   cross-attention → dVAE
    GAN               one pass from noise
    unCLIP            CLIP vector → flow decoder

All are trained in one run directory, on the same pictures, captions, tokenizer and dVAE.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from minidalle.baselines.encoder_decoder import EncoderDecoder
from minidalle.baselines.gan import GAN
from minidalle.baselines.masked import Masked
from minidalle.baselines.masked_sampling import sample_masked
from minidalle.baselines.unclip import UnCLIP
from minidalle.dvae import DVAE
from minidalle.prior import Prior
from minidalle.sampling import candidate_generators, sample_codes
from minidalle.training import checkpoint
from minidalle.training.log import minutes
from minidalle.training.run import TrainingRun

BLOCKS = (ast.Module, ast.ClassDef, ast.FunctionDef)  # that may have a docstring
PACKAGE = Path(__file__).parent.parent
NAMES = {
    "prior": "DALL·E",
    "masked": "masked codes",
    "encoder_decoder": "encoder–decoder",
    "gan": "GAN",
    "unclip": "unCLIP",
}
FILES = {  # of the lesson and the baselines, for lines of code
    "prior": ("attention", "transformer", "prior", "sampling"),
    "masked": ("attention", "transformer", "baselines/masked", "baselines/masked_sampling"),
    "encoder_decoder": ("attention", "transformer", "baselines/encoder_decoder", "sampling"),
    "gan": ("transformer", "attention", "baselines/gan", "baselines/adversarial"),
    "unclip": ("attention", "baselines/flow", "baselines/denoisers", "baselines/unclip"),
}


class System(NamedTuple):
    """A trained system."""

    stage: str
    name: str
    draw: Callable[[str, int, int], Tensor]  # caption, number, seed → n 3 H W in [0, 1]
    parameters: int  # without the dVAE and CLIP, which several share
    minutes: float  # of its training
    lines: int  # of code without comments, docstrings and blank lines


def trained_systems(run: TrainingRun) -> Iterator[System]:
    """The systems that are trained in a run, in the order of NAMES."""
    for stage, name in NAMES.items():
        if checkpoint.steps(run.out / stage):
            model = run.model(stage)
            yield System(
                stage, name, _draw(run, model), sum(p.numel() for p in model.parameters()),
                minutes(run.out / f"{stage}.jsonl", run.preset.training[stage].batch_size),
                lines_of_code(stage),
            )  # fmt: skip


def _draw(run: TrainingRun, model: nn.Module) -> Callable[[str, int, int], Tensor]:
    """How a model draws n pictures of a caption, with its own default settings."""
    tokenizer, device, sampling = run.tokenizer(), run.device, run.preset.sampling
    dvae, config = run.model("dvae"), cast(Any, model.config)
    assert isinstance(dvae, DVAE)

    @torch.no_grad()
    def draw(caption: str, n: int, seed: int) -> Tensor:
        length = config.text_length
        text = tokenizer.batch([caption], length).to(device)
        uncond = tokenizer.empty_captions(1, length).to(device)
        generators = candidate_generators(seed, n)
        if isinstance(model, GAN):
            return model.draw(text.expand(n, -1), model.sample_noise(generators))
        if isinstance(model, UnCLIP):
            return model.draw(text, generators)
        if isinstance(model, Masked):
            *_, codes = sample_masked(model, text, uncond, sampling, generators)
        else:
            assert isinstance(model, (Prior, EncoderDecoder))
            *_, codes = sample_codes(model, text, uncond, sampling, generators)
        return dvae.decode(rearrange(codes, "n (h w) -> n h w", h=dvae.config.grid))

    return draw


def lines_of_code(stage: str) -> int:
    """Lines of code of a system's own modules."""
    return sum(map(code_lines, FILES[stage]))


def code_lines(module: str) -> int:
    """Lines of code of a module, by its name within the package: without comments, docstrings and
    blank lines, and each statement on as few lines as it takes."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return len(ast.unparse(tree).splitlines()) - ast.unparse(tree).count("\n\n")
