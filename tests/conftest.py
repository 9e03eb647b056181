"""What several tests need: a whole bundle, trained in seconds."""

import pytest

from minidalle.bundle import assemble
from minidalle.pipeline import MiniDALLE
from minidalle.presets import preset
from minidalle.stages import STAGES, Stages
from minidalle.storybook import Storybook


@pytest.fixture(scope="session")
def smoke_bundle(tmp_path_factory):
    """A directory with all four stages trained at `smoke`, and its bundle."""
    stages = Stages(preset("smoke"), Storybook(), tmp_path_factory.mktemp("runs") / "smoke")
    for stage in STAGES[1:]:
        for _ in stages.train(stage):
            pass
    return assemble(stages)


@pytest.fixture(scope="session")
def smoke_model(smoke_bundle):
    return MiniDALLE.load(smoke_bundle, device="cpu")
