"""MobileNetV2 (Sandler et al., CVPR 2018, table 2) with torchvision's state-dict keys.

Letters: N pictures, C channels, H x W the height and width of a map, K classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

# Expansion t, output channels c, repeats n, first stride s: table 2 of the paper.
INVERTED_RESIDUAL_SETTING = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BLOCK_COUNT = sum(repeats for _, _, repeats, _ in INVERTED_RESIDUAL_SETTING)
TOTAL_STRIDE = 32


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, never below 90 % of `channels` (the authors' rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ConvNormActivation(nn.Sequential):
    """Convolution, norm, ReLU6. Maps [N,C,H,W] to [N,C',H/stride,W/stride]."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                stride,
                padding=kernel // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; the input is added where shapes allow (paper, section 3.3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvNormActivation(in_channels, hidden, 1, 1, groups=1))
        layers.append(ConvNormActivation(hidden, hidden, 3, stride, groups=hidden))
        layers.append(nn.Conv2d(hidden, out_channels, 1, bias=False))
        layers.append(nn.BatchNorm2d(out_channels))
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """The whole network. Maps pictures [N,3,H,W] to logits [N,K].

    `width` multiplies every channel count but the head's, which it only ever enlarges
    (torchvision does the same).
    """

    def __init__(self, classes: int, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        channels = make_divisible(STEM_CHANNELS * width)
        layers: list[nn.Module] = [ConvNormActivation(3, channels, 3, 2, groups=1)]
        for expansion, base, repeats, first_stride in INVERTED_RESIDUAL_SETTING:
            out_channels = make_divisible(base * width)
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(channels, out_channels, stride, expansion))
                channels = out_channels
        head = make_divisible(HEAD_CHANNELS * max(1.0, width))
        layers.append(ConvNormActivation(channels, head, 1, 1, groups=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            OrderedDict([("0", nn.Dropout(dropout)), ("1", nn.Linear(head, classes))])
        )
        self._initialise()

    def _initialise(self) -> None:
        """He's fan-out rule for convolutions, N(0, 0.01) for the classifier."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        pooled = torch.mean(self.features(images), dim=(2, 3))
        logits: Tensor = self.classifier(pooled)
        return logits
