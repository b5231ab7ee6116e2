"""MCUNet-5fps (Lin et al., NeurIPS 2020), a network found by search for microcontrollers.

The table is that of the authors' published model `mcunet-5fps`: no head convolution, so that the
classifier reads the last block's 160 channels. State-dict keys are those torchvision gives to
MobileNetV2. Meant for pictures of 128 px.

Letters: N pictures, K classes.
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.backbones.inverted_residual import (
    Block,
    ConvNormActivation,
    IrbNetwork,
    mobilenetv2_block,
)

ROWS = (
    Block(16, 16, 8),
    Block(8, 32, 16, stride=2),
    Block(16, 48, 16),
    Block(16, 48, 24, kernel=7, stride=2),
    Block(24, 120, 24),
    Block(24, 120, 40, stride=2),
    Block(40, 160, 40, kernel=7),
    Block(40, 160, 48, kernel=5),
    Block(48, 144, 48),
    Block(48, 192, 48),
    Block(48, 240, 96, kernel=7, stride=2),
    Block(96, 384, 96, kernel=5),
    Block(96, 384, 96, kernel=5),
    Block(96, 576, 160),
)


class McuNet5Fps(IrbNetwork):
    """The whole network. Maps pictures [N,3,H,W] to logits [N,K]."""

    def __init__(self, classes: int, dropout: float = 0.0) -> None:
        super().__init__(
            "MCUNet-5fps",
            [ConvNormActivation(3, ROWS[0].in_channels, 3, 2, groups=1)],
            [mobilenetv2_block(row) for row in ROWS],
            [],
            nn.Sequential(nn.Dropout(dropout), nn.Linear(ROWS[-1].out_channels, classes)),
        )
