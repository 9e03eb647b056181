"""Make data/half-trained: `python -m tests.benchmarks.half_trained RUN STEP [CHECKPOINTS]`.

RUN is the --out of the training that made the bundle, and STEP the checkpoint of its prior that
ships half-trained. CHECKPOINTS is a folder of copies of further checkpoints, which a run itself
does not keep. Its step-*.safetensors and those of RUN/prior are the moments of the film.

Earlier moments are trained again: a run is a function of its seed, so the first steps are the same
pictures in the same order. `--replay 30 100 300` is the default, and takes minutes.

`minidalle.lab.shipped` reads what this writes.
"""

import argparse
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as tensor_bytes
from torch import Tensor
from tqdm import tqdm

from minidalle.bundle import build, config_from_dict
from minidalle.files import to_json, write_file
from minidalle.lab import shipped
from minidalle.pipeline import MiniDALLE
from minidalle.prior import Prior, PriorConfig
from minidalle.sampling import candidate_generators, sample_codes
from minidalle.tensors import to_uint8
from minidalle.training import checkpoint
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.trainer import TrainState, fit
from minidalle.world.storybook import Storybook

CAPTIONS = [  # chosen before the first look
    "a red car on the grass",
    "three yellow stars at night",
    "a white cat to the left of a purple house by the sea",
    "一只棕色的大熊在雪地里",
]
MOMENTS = [30, 100, 300, 1000, 3000, 6000, 12_000]
SEED = 0
OUT = Path(__file__).parents[2] / "data" / "half-trained"


def half_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float16, as the bundle's weights."""
    return {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}


def sheet(film: Mapping[int, list[np.ndarray]]) -> bytes:
    """One PNG: a row per moment, a column per caption."""
    buffer = io.BytesIO()
    rows = [np.concatenate(film[step], axis=1) for step in sorted(film)]
    Image.fromarray(np.concatenate(rows)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@torch.no_grad()
def drawn(prior: Prior, model: MiniDALLE) -> list[np.ndarray]:
    """The first drawing of each caption, always with the same seed."""
    length, grid = prior.config.text_length, prior.config.grid
    empty, images = model.tokenizer.empty_captions(1, length), []
    for caption in CAPTIONS:
        text, generators = model.tokenizer.batch([caption], length), candidate_generators(SEED, 1)
        *_, codes = sample_codes(prior.eval(), text, empty, model.sampling, generators)
        images.append(to_uint8(model.dvae.decode(codes.view(1, grid, grid)))[0])
    return images


def replayed(run: TrainingRun, moments: Iterable[int]) -> Iterator[tuple[int, Prior]]:
    """The running mean of the weights at the run's first moments, trained again."""
    model, config = run.build("prior")
    state, wanted = TrainState.start(model, config), set(moments)
    for record in tqdm(fit(state, run.objective("prior", config)), total=max(wanted)):
        if record.step in wanted:
            assert isinstance(state.ema, Prior)
            yield record.step, state.ema
        if record.step == max(wanted):
            return


def saved(file: Path, group: str) -> Prior:
    """The prior of a checkpoint: "model", its last weights, or "ema", their running mean."""
    tensors, metadata = checkpoint.load(file)
    shape = metadata["model_config"]
    config = config_from_dict(PriorConfig, shape, f"{file}: the model")
    prior = build(Prior, config, tensors[group], file, shape)
    assert isinstance(prior, Prior)
    return prior


def main() -> None:
    parser = argparse.ArgumentParser(description="Make data/half-trained from a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("step", type=int)
    parser.add_argument("checkpoints", type=Path, nargs="?")
    parser.add_argument("--replay", type=int, nargs="*", default=[30, 100, 300])
    parser.add_argument("--preset", default="full", help="of the run")
    options = parser.parse_args()
    folders = [options.run / "prior", *([options.checkpoints] if options.checkpoints else [])]
    files = {checkpoint.step_of(p): p for folder in folders for p in checkpoint.steps(folder)}
    if options.step not in files:
        parser.error(f"no checkpoint of step {options.step}; there are {sorted(files)}")
    model = MiniDALLE.load(options.run, device="cpu")
    film = {s: drawn(saved(f, "ema"), model) for s, f in files.items() if s in MOMENTS}
    if options.replay:
        run = TrainingRun(preset(options.preset), Storybook(), options.run, torch.device("cpu"))
        for step, prior in replayed(run, options.replay):
            film[step] = drawn(prior, model)
    # The last weights, and not their mean: training goes on from them.
    weights = half_precision(saved(files[options.step], "model").state_dict())
    total = checkpoint.load(files[options.step])[1]["train_config"]["steps"]
    index = shipped.FilmIndex(sorted(film), CAPTIONS, options.step, total)
    OUT.mkdir(exist_ok=True)
    write_file(OUT / shipped.WEIGHTS, tensor_bytes(weights))
    write_file(OUT / shipped.PICTURES, sheet(film))
    write_file(OUT / shipped.INDEX, to_json(index._asdict()))
    missing = sorted(set(MOMENTS) - set(film))
    print(f"{OUT}: {len(film)} moments" + (f"; no checkpoint of {missing}" if missing else ""))


if __name__ == "__main__":
    main()
