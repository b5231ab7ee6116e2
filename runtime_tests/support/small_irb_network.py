"""Two blocks that have the layers of all backbones, for tests that export many bundles.

--model runtime_tests/support/small_irb_network.py:build
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.backbones.inverted_residual import (
    Block,
    ConvNormActivation,
    IrbNetwork,
    NormSetting,
    mobilenetv2_block,
    mobilenetv3_block,
)

STEM, WIDTH, HIDDEN, HEAD, LINEAR = 8, 16, 24, 32, 16


def build(classes: int) -> IrbNetwork:
    """[N,3,H,W] to logits [N,K]; the second block has squeeze-excite, hard swish and the sum."""
    return IrbNetwork(
        "Small",
        [ConvNormActivation(3, STEM, 3, 2, 1)],
        [
            mobilenetv2_block(Block(STEM, HIDDEN, WIDTH, stride=2)),
            mobilenetv3_block(Block(WIDTH, HIDDEN, WIDTH, 5, 1, nn.Hardswish, 8), NormSetting()),
        ],
        [ConvNormActivation(WIDTH, HEAD, 1, 1, 1, nn.ReLU)],
        nn.Sequential(nn.Linear(HEAD, LINEAR), nn.Hardswish(), nn.Linear(LINEAR, classes)),
    )
