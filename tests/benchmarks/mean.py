"""The mean of some bundles' priors: `python -m tests.benchmarks.mean OUT BUNDLE BUNDLE …`.

The weights of legs that began at the same prior lie in one valley of the loss, and so does their
mean: it knows what each of them has learnt, where each alone has also forgotten (Wortsman et al.,
*Robust fine-tuning of zero-shot models* and *Model soups*, 2022). A bundle named twice counts
twice. All else is the first one's.
"""

import argparse
from pathlib import Path

from minidalle import MiniDALLE

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mean")
    parser.add_argument("out", type=Path, help="where the bundle with the mean is written")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    asked = parser.parse_args()
    models = [MiniDALLE.load(bundle, device="cpu") for bundle in asked.bundles]
    priors = [model.prior.state_dict() for model in models]
    mean = {name: sum(prior[name] for prior in priors) / len(priors) for name in priors[0]}
    models[0].prior.load_state_dict(mean)
    print(models[0].save(asked.out))
