"""What several tests need: a thread each, and a whole bundle, trained in seconds."""

import os
import signal

import pytest
import torch

from minidalle.pipeline import MiniDALLE
from minidalle.training.presets import preset
from minidalle.training.run import TrainingRun
from minidalle.training.stages import STAGES
from minidalle.world.storybook import Storybook


def pytest_configure():
    """There is a worker a core: more than one thread in each, and they wait for each other."""
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the kernels that notebooks start
    torch.set_num_threads(int(threads))
    # Started in the background by a shell, this process ignores Ctrl-C, and so would each command
    # that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def smoke_bundle(tmp_path_factory):
    """A directory with all four stages trained at `smoke`, and its bundle."""
    run = TrainingRun(preset("smoke"), Storybook(), tmp_path_factory.mktemp("runs") / "smoke")
    for stage in STAGES:
        for _ in run.train(stage):
            pass
    return run.assemble()


@pytest.fixture(scope="session")
def smoke_model(smoke_bundle):
    return MiniDALLE.load(smoke_bundle, device="cpu")
