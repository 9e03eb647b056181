"""The stages of the baselines: what each is built from, and what it is trained on.

A baseline is trained like the models of a bundle, `minidalle train masked`, on the same pictures
and captions and the same dVAE, but no bundle contains it.
"""

from minidalle.training.stage import Stage

BASELINES: dict[str, Stage] = {}
