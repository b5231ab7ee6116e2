"""Paper accounting against the published figures, in MB of 1e6 bytes."""

from __future__ import annotations

import pytest
import torch

from mobiletl.core.accounting import (
    Activation,
    BlockShape,
    Component,
    block_activations,
    conv_norm_activations,
    linear_activations,
    total,
)
from mobiletl.core.masks import pack_mask

MB = 1e6
BATCH = 8
RELATIVE_TOLERANCE = 0.01
V2 = BlockShape(96, 576, 96, 7, 7)
V3 = BlockShape(96, 576, 96, 7, 7, activation=Activation.HARD_SWISH, squeeze_channels=144)

# MobileTL (Chiang et al., AAAI 2023), Figure 1; masks are 1 or 2 bits for each of 8*576*7*7.
MASK_MB = 8 * 576 * 7 * 7 / 8 / MB
FIGURE_V2 = [
    ("expand.conv", 0.15, 0.15),
    ("expand.norm", 0.91, 0.0),
    ("expand.activation", 2 * MASK_MB, MASK_MB),
    ("depthwise.conv", 0.90, 0.90),
    ("depthwise.norm", 0.91, 0.0),
    ("depthwise.activation", 2 * MASK_MB, MASK_MB),
    ("project.conv", 0.90, 0.90),
    ("project.norm", 0.15, 0.15),
]
FIGURE_V3 = [
    ("expand.activation", 0.90, MASK_MB),
    ("depthwise.activation", 0.90, MASK_MB),
    ("squeeze_excite", 0.95, 0.95),
]


def rows_by_name(shape: BlockShape) -> dict[str, Component]:
    return {row.name: row for row in block_activations(shape, BATCH)}


@pytest.mark.parametrize(
    ("shape", "row"),
    [(V2, row) for row in FIGURE_V2] + [(V3, row) for row in FIGURE_V3],
    ids=[f"v2-{row[0]}" for row in FIGURE_V2] + [f"v3-{row[0]}" for row in FIGURE_V3],
)
def test_component_equals_the_figure(shape: BlockShape, row: tuple[str, float, float]) -> None:
    name, vanilla_mb, mobiletl_mb = row
    component = rows_by_name(shape)[name]
    assert component.bytes_vanilla / MB == pytest.approx(vanilla_mb, rel=RELATIVE_TOLERANCE)
    assert component.bytes_mobiletl / MB == pytest.approx(mobiletl_mb, rel=RELATIVE_TOLERANCE)


def test_rows_are_those_of_the_figure_in_forward_order() -> None:
    assert [row.name for row in block_activations(V2, BATCH)] == [row[0] for row in FIGURE_V2]


@pytest.mark.parametrize(
    ("shape", "vanilla_mb", "mobiletl_mb", "saving_percent"),
    [(V2, 4.03, 2.16, 46.3), (V3, 6.67, 3.11, 53.3)],
    ids=["v2", "v3"],
)
def test_total_equals_the_figure(
    shape: BlockShape, vanilla_mb: float, mobiletl_mb: float, saving_percent: float
) -> None:
    block = total(block_activations(shape, BATCH))
    assert block.bytes_vanilla / MB == pytest.approx(vanilla_mb, rel=RELATIVE_TOLERANCE)
    assert block.bytes_mobiletl / MB == pytest.approx(mobiletl_mb, rel=RELATIVE_TOLERANCE)
    saved = 100 * (1 - block.bytes_mobiletl / block.bytes_vanilla)
    assert saved == pytest.approx(saving_percent, abs=0.1)


def v3_small_blocks() -> list[BlockShape]:
    """MobileNetV3-Small at 224 px (Howard et al., ICCV 2019, table 2), in forward order."""
    relu, swish = Activation.RELU, Activation.HARD_SWISH
    return [
        BlockShape(16, 16, 16, 112, 112, 2, relu, 8),
        BlockShape(16, 72, 24, 56, 56, 2, relu),
        BlockShape(24, 88, 24, 28, 28, 1, relu),
        BlockShape(24, 96, 40, 28, 28, 2, swish, 24),
        BlockShape(40, 240, 40, 14, 14, 1, swish, 64),
        BlockShape(40, 240, 40, 14, 14, 1, swish, 64),
        BlockShape(40, 120, 48, 14, 14, 1, swish, 32),
        BlockShape(48, 144, 48, 14, 14, 1, swish, 40),
        BlockShape(48, 288, 96, 14, 14, 2, swish, 72),
        BlockShape(96, 576, 96, 7, 7, 1, swish, 144),
        BlockShape(96, 576, 96, 7, 7, 1, swish, 144),
    ]


def v3_small_rows(blocks: int) -> list[Component]:
    """Top `blocks` blocks, head and classifier of MobileNetV3-Small; the stem too for all 11."""
    swish = Activation.HARD_SWISH
    shapes = v3_small_blocks()
    rows = [row for shape in shapes[-blocks:] for row in block_activations(shape, BATCH)]
    rows += conv_norm_activations("head", 96 * 49, 576 * 49, swish, BATCH)
    rows += [
        linear_activations("hidden", 576, BATCH),
        linear_activations("hidden.activation", 1024, BATCH),
        linear_activations("classifier", 1024, BATCH),
    ]
    if blocks == len(shapes):
        rows += conv_norm_activations("stem", 3 * 224 * 224, 16 * 112 * 112, swish, BATCH)
    return rows


@pytest.mark.parametrize(("blocks", "vanilla_mb"), [(3, 23.1), (5, 35.9), (11, 129.7)])
def test_mobilenetv3_small_equals_the_paper(blocks: int, vanilla_mb: float) -> None:
    rows = v3_small_rows(blocks)
    assert total(rows).bytes_vanilla / MB == pytest.approx(vanilla_mb, rel=RELATIVE_TOLERANCE)


def test_block_without_expansion_has_no_expand_rows() -> None:
    names = rows_by_name(BlockShape(32, 32, 16, 112, 112))
    assert not [name for name in names if name.startswith("expand")]
    assert names["depthwise.conv"].bytes_vanilla == BATCH * 32 * 112 * 112 * 4


def test_stride_shrinks_what_follows_the_depthwise_convolution() -> None:
    rows = rows_by_name(BlockShape(24, 144, 32, 7, 5, stride=2))
    assert rows["depthwise.conv"].bytes_vanilla == BATCH * 144 * 7 * 5 * 4
    assert rows["project.conv"].bytes_vanilla == BATCH * 144 * 4 * 3 * 4
    assert rows["project.norm"].bytes_vanilla == BATCH * 32 * 4 * 3 * 4


def test_mask_row_is_the_size_of_a_packed_mask() -> None:
    shape = BlockShape(3, 5, 3, 7, 7)
    row = block_activations(shape, 1)[2]
    assert row.name == "expand.activation"
    assert row.bytes_mobiletl == pack_mask(torch.zeros(1, 5, 7, 7)).numel()
