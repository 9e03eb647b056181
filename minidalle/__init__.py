"""minidalle: DALL·E (2021) step by step, at a size that a laptop trains.

from minidalle import MiniDALLE
ranked = MiniDALLE.load().generate("a red car on the grass", candidates=32, keep=4, seed=0)
ranked.save("pictures.png")
"""

from minidalle.errors import MinidalleError
from minidalle.pipeline import MiniDALLE
from minidalle.training import presets
from minidalle.world import judge
from minidalle.world.storybook import Storybook

__version__ = "0.1.0"
__all__ = ["MiniDALLE", "MinidalleError", "Storybook", "judge", "presets"]
