"""What TinyTL and Rep-Net put beside frozen blocks: a small row of layers that is trained.

Letters: N pictures, C channels, H x W the height and width of a map.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

SEED = 0


class HalvedMean(nn.Module):
    """The mean over windows of `window` x `window` pixels, smaller where the map is; pixels left
    over at the right and at the bottom are not read. Maps [N,C,H,W] to [N,C,H//window,W//window].
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(
            x, (min(self.window, x.shape[2]), min(self.window, x.shape[3]))
        )


class SideBranch(nn.Module):
    """Pooling, convolution, norm, ReLU, 1x1 convolution, norm. Maps [N,C,H,W] to [N,C',h,w].

    The last norm starts with scale 0 (as in the released code of both papers), so that at first the
    network computes what it was trained to. For that one step the gradients of all but that norm
    are 0.
    """

    def __init__(
        self,
        pool: nn.Module,
        conv: nn.Conv2d,
        inner_norm: nn.Module,
        project: nn.Conv2d,
        last_norm: nn.GroupNorm | nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.conv = conv
        self.inner_norm = inner_norm
        self.activation = nn.ReLU()
        self.project = project
        self.last_norm = last_norm
        for layer in (conv, project):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        nn.init.zeros_(last_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.inner_norm(self.conv(self.pool(x))))
        y: Tensor = self.last_norm(self.project(inner))
        return y


@contextmanager
def fixed_seed() -> Iterator[None]:
    """Draw what is added to a backbone from one seed: the same export gives the same bundle."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield
