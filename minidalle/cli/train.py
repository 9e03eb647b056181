"""`minidalle train`: one stage, several, or all of a bundle and the bundle."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from minidalle.bundle import MODELS, load_bundle
from minidalle.cli.arguments import path
from minidalle.cli.errors import exit_status, print_note, printable
from minidalle.cli.progress import GracefulInterrupt, train_with_progress, wait_for
from minidalle.cli.reading import add_reading_options, read_pictures
from minidalle.datasets.source import FolderSource, Source
from minidalle.datasets.views import Augmented, Replayed
from minidalle.errors import MinidalleError
from minidalle.files import check_replaceable, resolve
from minidalle.normalise import normalise_caption
from minidalle.tensors import pick_device
from minidalle.tokenizer import Tokenizer
from minidalle.training import distributed
from minidalle.training.background import BackgroundProcess
from minidalle.training.presets import PRESETS, Preset, preset
from minidalle.training.run import TrainingRun
from minidalle.training.stages import NAMES, STAGES
from minidalle.training.tensorboard import TensorBoard, folder
from minidalle.world.storybook import Storybook


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The command and its options."""
    p = commands.add_parser("train", help="train some stages, or all of a bundle")
    p.set_defaults(run=train)
    p.add_argument("stages", nargs="+", choices=(*NAMES, "all"), metavar="STAGE",
                   help=f"{', '.join(NAMES)}; all: those of a bundle, and the bundle")  # fmt: skip
    p.add_argument("--preset", help=f"{', '.join(PRESETS)} (class)")
    p.add_argument("--data", type=path, metavar="FOLDER",
                   help="your pictures: a folder, .zip or .tar shards (the storybook)")  # fmt: skip
    p.add_argument("--lone", action="store_true",
                   help="of the storybook, only scenes of one thing: an easier world")  # fmt: skip
    p.add_argument("--lr", type=float, metavar="RATE",
                   help="peak learning rate, of one stage (the preset's)")  # fmt: skip
    p.add_argument("--text-length", type=int, metavar="N",
                   help="tokens of the longest caption (the preset's)")  # fmt: skip
    p.add_argument("--init", type=path, metavar="BUNDLE",
                   help="start from a trained bundle, its sizes included; a stage that is not"
                   " trained here is the bundle's")  # fmt: skip
    p.add_argument("--out", type=path, help="where checkpoints go (runs/PRESET)")
    add_training_options(p)
    return p


def add_training_options(p: argparse.ArgumentParser) -> None:
    """What `train` and `finetune` have in common."""
    add_reading_options(p)
    p.add_argument("--seed", type=int, default=0,
                   help="another seed, other weights and another order of the data (0)"
                   )  # fmt: skip
    p.add_argument("--accumulate", type=int, default=1, metavar="N",
                   help="microbatches per update, to save memory; not for CLIP (1)")  # fmt: skip
    p.add_argument("--batch-size", type=int, metavar="N",
                   help="pictures per update, in every stage trained (the preset's)")  # fmt: skip
    p.add_argument("--steps", type=int, metavar="N",
                   help="updates, of one stage or each (the preset's)")  # fmt: skip
    p.add_argument("--epochs", type=float, metavar="N",
                   help="passes over --data, in place of --steps")  # fmt: skip
    p.add_argument("--replay", type=float, metavar="SHARE",
                   help="share of the examples that come from the storybook, beside --data"
                   )  # fmt: skip
    p.add_argument("--augment", action="store_true",
                   help="shift, mirror and brighten pictures at random")  # fmt: skip
    p.add_argument("--dropout", type=float, metavar="RATE", help="in the prior (0)")
    p.add_argument("--sampled-codes", action="store_true",
                   help="train the prior on codes sampled from the dVAE's posterior")  # fmt: skip
    p.add_argument("--weight-decay", type=float, metavar="RATE", help="(the preset's)")
    p.add_argument("--patience", type=int, metavar="N",
                   help="end a stage after N looks without a lower validation loss")  # fmt: skip
    p.add_argument("--validate-every", type=int, metavar="N",
                   help="updates between two looks at the validation loss (100 with --patience)"
                   )  # fmt: skip
    p.add_argument("--tensorboard", action="store_true",
                   help="write curves and samples to OUT/tensorboard")  # fmt: skip
    p.add_argument("--resume", action="store_true", help="continue where an earlier run stopped")


def train(args: argparse.Namespace) -> None:
    """Train; under torchrun, as one of its processes."""
    device = distributed.init(pick_device(args.device))
    is_main = distributed.is_main_process()  # the others train as well, in silence
    run = _training_run(args, device, is_main)
    if args.tensorboard and is_main:
        TensorBoard(run, "prior")  # fails now if the package is missing
        print(f"watch with: tensorboard --logdir {folder(run.out)}", file=sys.stderr)
    makes_bundle, names = "all" in args.stages, _names(args.stages)
    for name in names:
        run.check(name)  # before the first of them takes an hour
    alone_on_cpu = distributed.world_size() == 1 and run.device.type == "cpu"
    background = None
    with GracefulInterrupt() as interrupt, ExitStack() as stack:
        for name in names:
            if name == "tokenizer":
                _train_tokenizer(run, is_main)
            elif name == "clip" and background:
                if status := wait_for(background, interrupt):
                    sys.exit(status)
            else:
                if name == "prior" and makes_bundle and alone_on_cpu:
                    background = _start_background(args, stack)
                if status := train_with_progress(
                    run,
                    name,
                    args.resume,
                    interrupt,
                    background=background,
                    board=TensorBoard(run, name) if args.tensorboard and is_main else None,
                ):
                    sys.exit(status)
    distributed.shutdown()
    if makes_bundle and is_main:
        print(f"bundle: {run.assemble()}")


def _names(stages: Sequence[str]) -> list[str]:
    """The stages asked for, each once, in the order in which they learn from each other."""
    wanted = {*stages, *(("tokenizer", *MODELS) if "all" in stages else ())}
    return [name for name in NAMES if name in wanted]


def _training_run(
    args: argparse.Namespace, device: torch.device | None, is_main: bool
) -> TrainingRun:
    """Raises MinidalleError, before any work, for options that do not go together."""
    _check_source_options(args)
    if args.init and args.text_length is not None:
        raise MinidalleError("--init brings its own text length: leave --text-length out")
    chosen = preset(args.preset).with_text_length(args.text_length)
    chosen = chosen.with_training(batch_size=args.batch_size, seed=args.seed)
    divisible = [name for name, row in STAGES.items() if not row.distinct_captions]
    if args.accumulate > 1 and args.stage in STAGES and args.stage not in divisible:
        raise MinidalleError(
            "CLIP compares all pictures of a batch with all its captions, so its batch cannot be"
            " accumulated: leave --accumulate out, and choose a smaller --batch-size if need be"
        )
    chosen = chosen.with_training(*divisible, accumulate=args.accumulate)
    if args.lr is not None and len(args.stages) > 1:
        raise MinidalleError("--lr is for one stage: leave it out, or train each by itself")
    chosen = chosen.with_training(args.stages[0], lr=args.lr)
    stages = () if "all" in args.stages else tuple(args.stages)
    chosen = chosen.with_training(*stages, steps=args.steps)
    chosen = _with_regularisation(chosen, args, stages)
    out = args.out or Path("runs") / chosen.name
    bundle = resolve(out / "bundle")  # raises for a link to itself
    if "all" in args.stages:
        check_replaceable(bundle)  # before hours of training
    init = load_bundle(args.init) if args.init else None
    image_size = (init.dvae.config if init else chosen.models["dvae"]).image_size
    source = _source(args, out, image_size, is_main)
    if args.epochs is not None:
        chosen = _with_epochs(chosen, args, source)
    return TrainingRun(chosen, source, out, device, init)


def _check_source_options(args: argparse.Namespace) -> None:
    """Raises MinidalleError for an option that would do nothing with this source of pictures."""
    for name in ("strict", "caption_column", "crop", "replay"):
        if args.data is None and getattr(args, name) not in (None, False):
            option = "--" + name.replace("_", "-")
            raise MinidalleError(
                f"{option} is for your own pictures: name them with --data, or leave {option} out"
            )
    if args.data and args.lone:
        raise MinidalleError("--lone is of the storybook: leave --data or it out")


def _with_regularisation(chosen: Preset, args: argparse.Namespace, stages: tuple) -> Preset:
    """The switches against over-fitting. `stages`: those that are trained; none for all."""
    every = args.validate_every
    if args.patience and every is None and not chosen.training["prior"].validate_every:
        every = 100
    chosen = chosen.with_training(
        *stages, weight_decay=args.weight_decay, validate_every=every, patience=args.patience
    )
    if args.sampled_codes:
        chosen = replace(chosen, sampled_codes=True)
    return chosen.with_model("prior", dropout=args.dropout)


def _with_epochs(chosen: Preset, args: argparse.Namespace, source: Source) -> Preset:
    if args.steps is not None:
        raise MinidalleError("--epochs and --steps name the same thing; choose one of them")
    if source.epoch is None:
        raise MinidalleError("--epochs needs --data: the storybook has no end; use --steps")
    for stage, config in chosen.training.items():
        if stage in _names(args.stages):
            steps = max(1, round(args.epochs * source.epoch / config.batch_size))
            chosen = chosen.with_training(stage, steps=steps)
    return chosen


def _start_background(args: argparse.Namespace, stack: ExitStack) -> BackgroundProcess | None:
    """On a CPU, CLIP trains while the prior does; None where no second process can be made."""
    try:
        return stack.enter_context(BackgroundProcess(train_clip, args))
    except OSError as error:  # no /dev/shm, as in some containers; no process or memory left
        print_note(f"no second process here ({error.strerror}): CLIP is trained after the prior")
        return None


def train_clip(args: argparse.Namespace) -> int:
    """The work of the background process, with its bar under the parent's."""

    def work() -> int:
        run = _training_run(args, pick_device("cpu"), is_main=False)
        with GracefulInterrupt() as interrupt:
            board = TensorBoard(run, "clip") if args.tensorboard else None
            return train_with_progress(run, "clip", args.resume, interrupt, position=1, board=board)

    return exit_status(work)


def _train_tokenizer(run: TrainingRun, is_main: bool) -> None:
    tokenizer = run.tokenizer()
    if is_main:
        print(f"tokenizer: {tokenizer.vocab_size} tokens", file=sys.stderr)
        lengths = [run.preset.models[name].text_length for name in ("prior", "clip")]
        _note_long_captions(run.source, tokenizer, min(lengths))


def _source(args: argparse.Namespace, out: Path, image_size: int, is_main: bool) -> Source:
    """The storybook, or the pictures of --data, with a report of what could not be read."""
    if args.replay is not None and not 0 <= args.replay < 1:
        raise MinidalleError(f"--replay must be ≥ 0 and below 1, got {args.replay}; try 0.25")
    book = Storybook(image_size, args.seed, args.lone)
    source = _pictures(args, out, image_size, is_main) if args.data else book
    if args.replay:
        source = Replayed(source, book, args.replay)
    return Augmented(source, args.seed) if args.augment else source


def _pictures(args: argparse.Namespace, out: Path, image_size: int, is_main: bool) -> Source:
    folder = read_pictures(args, out / "pictures", image_size, is_main)
    if is_main:
        print("\n".join(map(printable, folder.report().splitlines())), file=sys.stderr)
    return FolderSource(folder, args.seed)


def _note_long_captions(source: Source, tokenizer: Tokenizer, length: int) -> None:
    """One line for all of them, and not one for each as it is read."""
    captions = {source.caption("train", i) for i in range(source.epoch or 0)}
    long = [c for c in captions if len(tokenizer.encode(normalise_caption(c))) > length]
    if long:
        print_note(
            f"{len(long)} of {len(captions)} captions are longer than {length} tokens and are cut"
            f" there, for instance {long[0][:80]!r}"
        )
