"""TinyTL's lite residual module (Cai et al., NeurIPS 2020, section 3.2 and figure 2).

Beside a block: means of 2x2 pixels, a k x k convolution in two groups that is as wide as the
block's input and carries the block's stride, group norm, ReLU, a 1x1 convolution, group norm. What
the paper leaves open follows the authors' released code (mit-han-lab/tinyml): k = 5, less where
the pooled map is smaller; on a pooled map of one pixel, the mean over the map and 1x1 convolutions;
8 channels per group and eps 1e-3 in the norms; standardised kernels in both convolutions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.backbones.inverted_residual import make_divisible
from mobiletl.core.methods.block_maps import BlockMap
from mobiletl.core.methods.side_branch import HalvedMean, SideBranch

LARGEST_KERNEL = 5
GROUPS = 2
CHANNELS_PER_GROUP = 8
NORM_EPS = 1e-3
STANDARD_EPS = 1e-5


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose kernels are brought to mean 0 and standard deviation 1 before use, one
    output channel at a time (weight standardisation; Qiao et al., 2019, equation 3).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N,C,H,W] to [N,C',H',W']."""
        taps = math.prod(self.weight.shape[1:])
        dims = (1, 2, 3)
        centred = self.weight - self.weight.sum(dims, keepdim=True) / taps
        variance = (centred * centred).sum(dims, keepdim=True) / (taps - 1)
        kernel = centred / (torch.sqrt(variance) + STANDARD_EPS)
        return functional.conv2d(
            x, kernel, None, self.stride, self.padding, self.dilation, self.groups
        )


def lite_residual(block: BlockMap) -> SideBranch:
    """The module for a block. Maps its input to a map of half its output's size or less."""
    pooled = block.in_size // 2
    largest = pooled if pooled % 2 else pooled - 1
    kernel = max(1, min(LARGEST_KERNEL, largest))
    inner = make_divisible(block.in_channels)
    return SideBranch(
        HalvedMean(2) if pooled > 1 else nn.AdaptiveAvgPool2d(1),
        StandardisedConv2d(
            block.in_channels,
            inner,
            kernel,
            block.stride,
            kernel // 2,
            groups=math.gcd(GROUPS, block.in_channels),
            bias=False,
        ),
        _group_norm(inner),
        StandardisedConv2d(inner, block.out_channels, 1, bias=False),
        _group_norm(block.out_channels),
    )


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // math.gcd(channels, CHANNELS_PER_GROUP), channels, NORM_EPS)
