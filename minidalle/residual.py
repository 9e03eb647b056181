"""Convolutional residual blocks, of which the dVAE's encoder and decoder are made.

    x + gain · path(x)

A block adds a correction to its input, so a deep stack trains like a shallow one (He et al. 2016).
The paper's block is a bottleneck: few channels inside, many outside (Ramesh et al. 2021, appendix
A.1). The baseline VAE has the same blocks.
"""

from itertools import pairwise

from torch import Tensor, nn


class Block(nn.Module):
    """x + gain · path(x): four convolutions, a ReLU before each; `num_3x3` of them are 3×3.

    The paper has num_3x3 = 3 (appendix A.1). `gain` is 1/√n with n the number of blocks, so the sum
    of all paths has the variance of one. bottleneck: c_out divided by the channels inside.
    """

    def __init__(
        self, c_in: int, c_out: int, gain: float, num_3x3: int, up: bool, bottleneck: int = 4
    ) -> None:
        super().__init__()
        hidden = c_out // bottleneck
        kernels = (1, *[3] * num_3x3, *[1] * (3 - num_3x3))  # a 1×1 stands next to the bottleneck
        kernels = kernels if up else kernels[::-1]
        sizes = (c_in, hidden, hidden, hidden, c_out)
        self.path = nn.Sequential()
        for kernel, (a, b) in zip(kernels, pairwise(sizes), strict=True):
            self.path.extend([nn.ReLU(), nn.Conv2d(a, b, kernel, padding=kernel // 2)])
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.gain * self.path(x)


def residual_stack(
    widths: tuple[int, ...], blocks: int, num_3x3: int, up: bool, bottleneck: int = 4
) -> nn.Sequential:
    """Residual blocks at each width, the grid halved (or doubled) between two widths."""
    gain = (len(widths) * blocks) ** -0.5
    layers: list[nn.Module] = []
    c_in = widths[0]
    for i, width in enumerate(widths):
        if i:
            layers.append(nn.Upsample(scale_factor=2) if up else nn.MaxPool2d(2))
        for _ in range(blocks):
            layers.append(Block(c_in, width, gain, num_3x3, up, bottleneck))
            c_in = width
    return nn.Sequential(*layers, nn.ReLU())
