"""MnasNet-B1 (Tan et al., CVPR 2019, figure 7), as somebody else might have written it.

Nothing of this network is defined in mobiletl. Its block holds convolutions and norms as attributes
and calls ReLU as a function; `as_rows` finds the rows in it.

    mobiletl export --model examples/own_network/mnasnet.py:build --weights mnasnet1_0.safetensors

`rename` takes the keys of torchvision's published weights (mnasnet0_5, mnasnet1_0). Its norms have
a momentum of 3e-4, for a million steps; here they have PyTorch's 0.1, because after a few hundred
steps on a board their statistics would still be the old ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.backbones.inverted_residual import IrbNetwork, make_divisible
from mobiletl.core.rows import as_rows

# Kernel, expansion, output channels, blocks, stride of the first block.
STAGES = (
    (3, 3, 24, 3, 2),
    (5, 3, 40, 3, 2),
    (5, 6, 80, 3, 2),
    (3, 6, 96, 2, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)
STEM_CHANNELS, FIRST_CHANNELS, HEAD_CHANNELS = 32, 16, 1280


class Block(nn.Module):
    """Expand, filter, project; maps [N,C,H,W] to [N,C',H/stride,W/stride]."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.residual = stride == 1 and channels == out
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(
            hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False
        )
        self.norm2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.expand(x)))
        y = functional.relu(self.norm2(self.depthwise(y)))
        y = self.norm3(self.project(y))
        return torch.add(y, x) if self.residual else y


def row(conv: nn.Conv2d, activation: bool = True) -> nn.Sequential:
    """Convolution, norm and ReLU, written as methods look for them: no `as_rows` needed."""
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), *[nn.ReLU()] * activation)


def mnasnet(classes: int, width: float) -> IrbNetwork:
    """Maps pictures [N,3,H,W] to logits [N,classes]."""
    stem, first = (make_divisible(c * width) for c in (STEM_CHANNELS, FIRST_CHANNELS))
    blocks = []
    channels = first
    for kernel, expansion, out, repeats, stride in STAGES:
        for repeat in range(repeats):
            wide = make_divisible(out * width)
            block = Block(channels, wide, kernel, stride if repeat == 0 else 1, expansion)
            blocks.append(as_rows(block))
            channels = wide
    return IrbNetwork(
        title=f"MnasNet-B1 {width:g}",
        stem=[
            row(nn.Conv2d(3, stem, 3, 2, 1, bias=False)),
            row(nn.Conv2d(stem, stem, 3, 1, 1, groups=stem, bias=False)),
            row(nn.Conv2d(stem, first, 1, bias=False), activation=False),
        ],
        blocks=blocks,
        head=[row(nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False))],
        classifier=nn.Sequential(nn.Dropout(0.2), nn.Linear(HEAD_CHANNELS, classes)),
    )


def build(classes: int) -> IrbNetwork:
    """4,383,312 parameters for 1000 classes."""
    return mnasnet(classes, 1.0)


def build_half(classes: int) -> IrbNetwork:
    """2,218,512 parameters for 1000 classes."""
    return mnasnet(classes, 0.5)


# torchvision numbers the layers of stem and head in one row, stages from 8 on.
OUTSIDE = {0: "0.0", 1: "0.1", 3: "1.0", 4: "1.1", 6: "2.0", 7: "2.1", 14: "19.0", 15: "19.1"}
INSIDE = {
    "0": "expand.0",
    "1": "expand.1",
    "3": "depthwise.0",
    "4": "depthwise.1",
    "6": "project.0",
    "7": "project.1",
}


def rename(key: str) -> str:
    """`layers.9.2.layers.3.weight` -> `features.8.depthwise.0.weight`; other keys as they are."""
    parts = key.split(".")
    if parts[0] != "layers":
        return key
    number, leaf = int(parts[1]), parts[-1]
    if number in OUTSIDE:
        return f"features.{OUTSIDE[number]}.{leaf}"
    before = sum(repeats for *_, repeats, _ in STAGES[: number - 8])
    return f"features.{3 + before + int(parts[2])}.{INSIDE[parts[4]]}.{leaf}"
