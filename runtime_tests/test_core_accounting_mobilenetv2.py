"""Shapes and rows of MobileNetV2's accounting against its modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.accounting import BlockShape, Component, block_activations, total
from mobiletl.core.accounting_mobilenetv2 import mobilenetv2_activations, mobilenetv2_blocks
from mobiletl.core.mobilenetv2 import BLOCK_COUNT, MobileNetV2

BATCH = 8


@pytest.mark.parametrize(("width", "resolution"), [(1.0, 224), (0.35, 96), (0.5, 80)])
def test_block_shapes_are_those_of_the_modules(width: float, resolution: int) -> None:
    model = MobileNetV2(10, width).eval().to("meta")
    shapes = mobilenetv2_blocks(width, resolution)
    assert len(shapes) == BLOCK_COUNT
    x = model.features[0](torch.empty(1, 3, resolution, resolution, device="meta"))
    for shape, block in zip(shapes, list(model.features)[1:-1], strict=True):
        assert x.shape[1:] == (shape.in_channels, shape.height, shape.width)
        x = block(x)
        assert (x.shape[1], x[0, 0].numel()) == (shape.out_channels, shape.out_pixels)
        depthwise = [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
        assert [m.out_channels for m in depthwise] == [shape.hidden_channels]


def test_network_rows_are_the_trained_top() -> None:
    rows = mobilenetv2_activations(1.0, 224, 3, BATCH)
    assert [row.name for row in rows] == [
        "features.15",
        "features.16",
        "features.17",
        "head.conv",
        "head.norm",
        "head.activation",
        "classifier",
    ]
    whole = block_activations(BlockShape(160, 960, 160, 7, 7), BATCH)
    assert rows[0].bytes_vanilla == total(whole).bytes_vanilla
    assert rows[0].bytes_mobiletl == total(whole).bytes_mobiletl
    assert rows[3].bytes_vanilla == BATCH * 320 * 7 * 7 * 4
    assert rows[-1] == Component("classifier", BATCH * 1280 * 4, BATCH * 1280 * 4)
    assert len(mobilenetv2_activations(1.0, 224, BLOCK_COUNT, BATCH)) == BLOCK_COUNT + 4
    assert len(mobilenetv2_activations(1.0, 224, 0, BATCH)) == 4


@pytest.mark.parametrize("blocks", [-1, BLOCK_COUNT + 1])
def test_impossible_number_of_blocks_is_refused(blocks: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 17"):
        mobilenetv2_activations(1.0, 224, blocks, BATCH)
