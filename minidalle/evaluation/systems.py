"""Every system behind one door: a caption goes in, pictures come out.

    DALL·E            prior → dVAE, with no reranking
    encoder–decoder   cross-attention → dVAE
    masked codes      parallel decoding → dVAE
    GAN               one pass from noise
    unCLIP            CLIP vector → flow decoder

All are trained in one run directory, on the same pictures, captions, tokenizer and dVAE.
"""

import ast
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
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
from minidalle.evaluation.runs import storybook
from minidalle.prior import Prior
from minidalle.sampling import candidate_generators, sample_codes
from minidalle.training import checkpoint
from minidalle.training.log import minutes
from minidalle.training.run import TrainingRun
from minidalle.training.stages import STAGES

PACKAGE = Path(__file__).parent.parent
NAMES = {
    "prior": "DALL·E",
    "encoder_decoder": "encoder–decoder",
    "masked": "masked codes",
    "gan": "GAN",
    "unclip": "unCLIP",
}
# The modules of each, for lines of code. What all of them stand on is left out: attention, the
# transformer, the tokenizer, the dVAE and CLIP.
MODULES = {
    "prior": ("prior", "sampling"),
    "encoder_decoder": ("baselines/encoder_decoder", "sampling"),
    "masked": ("baselines/masked", "baselines/masked_sampling"),
    "gan": ("baselines/gan", "baselines/adversarial"),
    "unclip": ("baselines/unclip", "baselines/flow", "baselines/denoisers"),
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Cost(NamedTuple):
    """What a stage of a run took."""

    parameters: int
    minutes: float  # of its training, by its log
    step: int  # updates made
    steps: int  # updates that the preset asks for


class System(NamedTuple):
    """A trained system of one run."""

    stage: str
    seed: int  # of the run
    draw: Callable[[str, int, int], Tensor]  # caption, number, seed → n 3 H W in [0, 1]
    cost: Cost  # of its own stage; the dVAE and CLIP, which several share, are not in it

    @property
    def name(self) -> str:
        """The name in the table."""
        return NAMES[self.stage]


def trained_systems(run: TrainingRun, stages: Iterable[str] = NAMES) -> Iterator[System]:
    """Those of some systems that a run has trained, finished or not, as their newest checkpoint has
    them. Raises MinidalleError where a checkpoint is damaged, or its dVAE or CLIP is unfinished."""
    for stage in stages:
        if checkpoint.steps(run.out / stage):
            model = run.snapshot(stage)
            yield System(stage, storybook(run).seed, _draw(run, model), cost(run, stage, model))


def cost(run: TrainingRun, stage: str, model: nn.Module) -> Cost:
    """What a trained stage took. model: the stage's."""
    newest = checkpoint.steps(run.out / stage)[0]
    batch_size = checkpoint.load(newest)[1]["train_config"]["batch_size"]
    return Cost(
        sum(p.numel() for p in model.parameters()), minutes(run.out / f"{stage}.jsonl", batch_size),
        checkpoint.step_of(newest), run.steps(stage),
    )  # fmt: skip


def models_behind(stage: str) -> list[str]:
    """The trained models that a system needs beside its own."""
    return [name for name in STAGES[stage].needs if name != "tokenizer"]


def _draw(run: TrainingRun, model: nn.Module) -> Callable[[str, int, int], Tensor]:
    """How a model draws n pictures of a caption, with the preset's sampling."""
    tokenizer, device, sampling = run.tokenizer(), run.device, run.preset.sampling
    has_codes = isinstance(model, (Prior, EncoderDecoder, Masked))
    dvae = cast(DVAE, run.model("dvae")) if has_codes else None
    length = cast(Any, model.config).text_length
    uncond = tokenizer.empty_captions(1, length).to(device)

    @torch.no_grad()
    def draw(caption: str, n: int, seed: int) -> Tensor:
        text = tokenizer.batch([caption], length).to(device)  # 1 T
        generators = candidate_generators(seed, n)
        if isinstance(model, GAN):
            return model.draw(text.expand(n, -1), model.sample_noise(generators))
        if isinstance(model, UnCLIP):
            return model.draw(text, generators)
        if isinstance(model, Masked):
            # In each of many cells a thing's first code is unlikely, and top-p would remove it.
            steps = sample_masked(model, text, uncond, replace(sampling, top_p=None), generators)
        else:
            steps = sample_codes(cast(Prior, model), text, uncond, sampling, generators)
        codes = deque(steps, maxlen=1).pop()  # the last has all of them
        assert dvae is not None
        return dvae.decode(rearrange(codes, "n (h w) -> n h w", h=dvae.config.grid))

    return draw


def lines_of_code(stage: str) -> int:
    """Lines of code of a system's own modules (MODULES)."""
    return sum(code_lines((PACKAGE / f"{m}.py").read_text("utf-8")) for m in MODULES[stage])


def code_lines(source: str) -> int:
    """Lines of code of a module: without comments, docstrings and blank lines, and each simple
    statement on one line, however it is laid out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return sum(bool(line.strip()) for line in ast.unparse(tree).splitlines())
