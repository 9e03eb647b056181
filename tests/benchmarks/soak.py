"""A thousand captions from all of Unicode in one process: `python -m tests.benchmarks.soak [N]`

No caption may crash it; memory may not grow by more than 5 % after the first hundred; and what a
seed gives must not depend on what was drawn before, or beside it.
"""

import resource
import sys
import warnings

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from minidalle import MiniDALLE

FIXED = "two pink hearts at night"


def resident() -> float:
    """Megabytes of memory in use now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main(n: int) -> int:
    warnings.simplefilter("ignore")  # words never seen, captions cut: both are wanted here
    model = MiniDALLE.load(device="cpu")
    before = model.generate(FIXED, candidates=2, keep=2, seed=3).images
    memory, drawn, refused = [], 0, 0
    bar = tqdm(total=n, unit="caption")

    @settings(max_examples=n, database=None, deadline=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.text(min_size=0, max_size=60))
    def draw(caption: str) -> None:
        nonlocal drawn, refused
        if caption.strip():
            ranked = model.generate(caption, candidates=1, keep=1, seed=drawn)
            assert ranked.images.shape[0] == 1 and np.isfinite(ranked.scores).all()
        else:
            refused += 1  # an empty caption is asked for again; tests/test_pipeline.py
        drawn += 1
        memory.append(resident())
        bar.update()

    draw()
    bar.close()
    settled, last = max(memory[: max(1, n // 10)]), memory[-1]
    after = model.generate(FIXED, candidates=2, keep=2, seed=3).images
    beside = model.generate(FIXED, candidates=5, keep=5, seed=3)
    company = beside.images[np.argsort(beside.order)][:2]
    alone = model.generate(FIXED, candidates=2, keep=2, seed=3)
    growth = last / settled - 1
    print(f"{drawn} captions, {refused} of them empty; memory {settled:.0f} MB after a tenth,"
          f" {last:.0f} MB at the end: {growth:+.1%}")  # fmt: skip
    same = np.array_equal(before, after)
    same &= np.array_equal(company, alone.images[np.argsort(alone.order)])
    print("the same seed gives the same picture, before, after and in company:", same)
    return 0 if same and growth <= 0.05 and drawn >= n else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
