"""Paper accounting (see `accounting.py`) of MobileNetV2, from its table of blocks."""

from __future__ import annotations

from mobiletl.core.accounting import (
    Activation,
    BlockShape,
    Component,
    block_activations,
    conv_norm_activations,
    linear_activations,
    total,
)
from mobiletl.core.mobilenetv2 import (
    HEAD_CHANNELS,
    INVERTED_RESIDUAL_SETTING,
    STEM_CHANNELS,
    make_divisible,
)


def mobilenetv2_blocks(width: float, resolution: int) -> tuple[BlockShape, ...]:
    """Shapes of the 17 blocks of MobileNetV2 in forward order, for square pictures."""
    channels = make_divisible(STEM_CHANNELS * width)
    side = -(-resolution // 2)
    blocks: list[BlockShape] = []
    for expansion, base, repeats, first_stride in INVERTED_RESIDUAL_SETTING:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            out_channels = make_divisible(base * width)
            blocks.append(
                BlockShape(channels, channels * expansion, out_channels, side, side, stride)
            )
            channels, side = out_channels, -(-side // stride)
    return tuple(blocks)


def mobilenetv2_activations(
    width: float, resolution: int, blocks: int, batch: int
) -> tuple[Component, ...]:
    """Rows of MobileNetV2 with its top `blocks` blocks, head convolution and classifier trained.

    A block is summed to one row, named after its place in `MobileNetV2.features`. The columns are
    the methods `ft-blocks` and `mobiletl`. Raises ValueError for more blocks than there are.
    """
    shapes = mobilenetv2_blocks(width, resolution)
    if not 0 <= blocks <= len(shapes):
        raise ValueError(f"{blocks} blocks to train, expected 0 to {len(shapes)}")
    first = len(shapes) - blocks
    rows: list[Component] = []
    for place, shape in enumerate(shapes[first:], start=first + 1):
        block = total(block_activations(shape, batch))
        rows.append(Component(f"features.{place}", block.bytes_vanilla, block.bytes_mobiletl))
    last, head = shapes[-1], make_divisible(HEAD_CHANNELS * max(1.0, width))
    in_elements, out_elements = (c * last.out_pixels for c in (last.out_channels, head))
    rows.extend(conv_norm_activations("head", in_elements, out_elements, Activation.RELU6, batch))
    rows.append(linear_activations("classifier", head, batch))
    return tuple(rows)
