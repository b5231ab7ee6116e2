"""MobileNetV3 (Howard et al., ICCV 2019, tables 1 and 2) with torchvision's state-dict keys.

Letters: N pictures, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mobiletl.core.backbones.inverted_residual import (
    Block,
    ConvNormActivation,
    IrbNetwork,
    NormSetting,
    make_divisible,
    mobilenetv3_block,
)

# The TensorFlow authors' setting, which torchvision and its weights keep.
NORM = NormSetting(eps=1e-3, momentum=0.01)
HEAD_EXPANSION = 6
SQUEEZE_DIVISOR = 4

# Kernel, hidden channels, output channels, squeeze-excite, activation, stride.
Row = tuple[int, int, int, bool, type[nn.Module], int]


@dataclass(frozen=True)
class Setting:
    """One of the two networks: its table of blocks and the width of its hidden linear layer."""

    title: str
    rows: tuple[Row, ...]
    hidden_features: int


SMALL = Setting(
    "MobileNetV3-Small",
    (
        (3, 16, 16, True, nn.ReLU, 2),
        (3, 72, 24, False, nn.ReLU, 2),
        (3, 88, 24, False, nn.ReLU, 1),
        (5, 96, 40, True, nn.Hardswish, 2),
        (5, 240, 40, True, nn.Hardswish, 1),
        (5, 240, 40, True, nn.Hardswish, 1),
        (5, 120, 48, True, nn.Hardswish, 1),
        (5, 144, 48, True, nn.Hardswish, 1),
        (5, 288, 96, True, nn.Hardswish, 2),
        (5, 576, 96, True, nn.Hardswish, 1),
        (5, 576, 96, True, nn.Hardswish, 1),
    ),
    hidden_features=1024,
)
LARGE = Setting(
    "MobileNetV3-Large",
    (
        (3, 16, 16, False, nn.ReLU, 1),
        (3, 64, 24, False, nn.ReLU, 2),
        (3, 72, 24, False, nn.ReLU, 1),
        (5, 72, 40, True, nn.ReLU, 2),
        (5, 120, 40, True, nn.ReLU, 1),
        (5, 120, 40, True, nn.ReLU, 1),
        (3, 240, 80, False, nn.Hardswish, 2),
        (3, 200, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 184, 80, False, nn.Hardswish, 1),
        (3, 480, 112, True, nn.Hardswish, 1),
        (3, 672, 112, True, nn.Hardswish, 1),
        (5, 672, 160, True, nn.Hardswish, 2),
        (5, 960, 160, True, nn.Hardswish, 1),
        (5, 960, 160, True, nn.Hardswish, 1),
    ),
    hidden_features=1280,
)
STEM_CHANNELS = 16


class MobileNetV3(IrbNetwork):
    """The whole network. Maps pictures [N,3,H,W] to logits [N,K].

    `width` multiplies every channel count (torchvision does the same).
    """

    def __init__(
        self, setting: Setting, classes: int, width: float = 1.0, dropout: float = 0.0
    ) -> None:
        stem = make_divisible(STEM_CHANNELS * width)
        rows = _rows(setting, stem, width)
        last = rows[-1].out_channels
        head = HEAD_EXPANSION * last
        hidden = make_divisible(setting.hidden_features * width)
        super().__init__(
            setting.title,
            [ConvNormActivation(3, stem, 3, 2, 1, nn.Hardswish, NORM)],
            [mobilenetv3_block(row, NORM) for row in rows],
            [ConvNormActivation(last, head, 1, 1, 1, nn.Hardswish, NORM)],
            nn.Sequential(
                nn.Linear(head, hidden),
                nn.Hardswish(),
                nn.Dropout(dropout),
                nn.Linear(hidden, classes),
            ),
        )


def _rows(setting: Setting, channels: int, width: float) -> list[Block]:
    rows = []
    for kernel, base_hidden, base_out, squeezes, activation, stride in setting.rows:
        hidden = make_divisible(base_hidden * width)
        squeezed = make_divisible(hidden // SQUEEZE_DIVISOR) if squeezes else None
        out_channels = make_divisible(base_out * width)
        rows.append(Block(channels, hidden, out_channels, kernel, stride, activation, squeezed))
        channels = out_channels
    return rows
