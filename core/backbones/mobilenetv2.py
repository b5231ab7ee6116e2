"""MobileNetV2 (Sandler et al., CVPR 2018, table 2) with torchvision's state-dict keys.

Letters: N pictures, K classes.
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.backbones.inverted_residual import (
    Block,
    ConvNormActivation,
    IrbNetwork,
    make_divisible,
    mobilenetv2_block,
)

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


class MobileNetV2(IrbNetwork):
    """The whole network. Maps pictures [N,3,H,W] to logits [N,K].

    `width` multiplies every channel count but the head's, which it only ever enlarges
    (torchvision does the same).
    """

    def __init__(self, classes: int, width: float = 1.0, dropout: float = 0.0) -> None:
        stem = make_divisible(STEM_CHANNELS * width)
        rows = _rows(stem, width)
        last = rows[-1].out_channels
        head = make_divisible(HEAD_CHANNELS * max(1.0, width))
        super().__init__(
            "MobileNetV2",
            [ConvNormActivation(3, stem, 3, 2, groups=1)],
            [mobilenetv2_block(row) for row in rows],
            [ConvNormActivation(last, head, 1, 1, groups=1)],
            nn.Sequential(nn.Dropout(dropout), nn.Linear(head, classes)),
        )


def _rows(channels: int, width: float) -> list[Block]:
    rows = []
    for expansion, base, repeats, first_stride in INVERTED_RESIDUAL_SETTING:
        out_channels = make_divisible(base * width)
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            rows.append(Block(channels, channels * expansion, out_channels, stride=stride))
            channels = out_channels
    return rows
