"""ProxylessNAS-Mobile (Cai, Zhu, Han, ICLR 2019), found by search for a phone's latency.

The table is the authors' published `proxyless_mobile.config` without its two empty blocks. Neither
torchvision nor timm has this network; its state-dict keys are those torchvision gives to
MobileNetV2, of which it is a relative.

Letters: N pictures, K classes.
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.backbones.inverted_residual import (
    Block,
    ConvNormActivation,
    IrbNetwork,
    NormSetting,
    make_divisible,
    mobilenetv2_block,
)

NORM = NormSetting(eps=1e-3)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280

# Kernel, expansion, output channels, stride.
ROWS = (
    (3, 1, 16, 1),
    (5, 3, 32, 2),
    (3, 3, 32, 1),
    (7, 3, 40, 2),
    (3, 3, 40, 1),
    (5, 3, 40, 1),
    (5, 3, 40, 1),
    (7, 6, 80, 2),
    (5, 3, 80, 1),
    (5, 3, 80, 1),
    (5, 3, 80, 1),
    (5, 6, 96, 1),
    (5, 3, 96, 1),
    (5, 3, 96, 1),
    (5, 3, 96, 1),
    (7, 6, 192, 2),
    (7, 6, 192, 1),
    (7, 3, 192, 1),
    (7, 3, 192, 1),
    (7, 6, 320, 1),
)


class ProxylessNasMobile(IrbNetwork):
    """The whole network. Maps pictures [N,3,H,W] to logits [N,K].

    `width` multiplies every channel count but the head's, which it only ever enlarges, as in
    MobileNetV2.
    """

    def __init__(self, classes: int, width: float = 1.0, dropout: float = 0.0) -> None:
        stem = make_divisible(STEM_CHANNELS * width)
        rows = _rows(stem, width)
        last = rows[-1].out_channels
        head = make_divisible(HEAD_CHANNELS * max(1.0, width))
        super().__init__(
            "ProxylessNAS-Mobile",
            [ConvNormActivation(3, stem, 3, 2, 1, nn.ReLU6, NORM)],
            [mobilenetv2_block(row, NORM) for row in rows],
            [ConvNormActivation(last, head, 1, 1, 1, nn.ReLU6, NORM)],
            nn.Sequential(nn.Dropout(dropout), nn.Linear(head, classes)),
        )


def _rows(channels: int, width: float) -> list[Block]:
    rows = []
    for kernel, expansion, base, stride in ROWS:
        out_channels = make_divisible(base * width)
        rows.append(Block(channels, channels * expansion, out_channels, kernel, stride))
        channels = out_channels
    return rows
