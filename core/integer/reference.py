"""The operators of `operators.py` in NumPy, whole numbers in int64: slow, and meant to be read.

Tests compare every implementation, on whatever runtime, with these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobiletl.core.integer.operators import (
    CENTRE,
    CENTRED_STEPS,
    CLAMPED_SCALE,
    MOST_SHIFT,
    SIGNED_STEPS,
    TINIEST,
)
from mobiletl.core.layers import masks_reference

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Signed = NDArray[np.int8]
Whole = NDArray[np.int64]


def centred_bytes(x: Floats) -> tuple[Bytes, Floats]:
    """(u8 as x, scale [])."""
    scale = np.maximum(np.abs(x).max() / np.float32(CENTRED_STEPS), np.float32(TINIEST))
    return np.clip(np.rint(x / scale) + CENTRE, 0, 255).astype(np.uint8), scale


def signed_bytes(x: Floats, axis: int, steps: int, tiniest: float) -> tuple[Signed, Floats]:
    """(s8 [A,B], scale of each row or column)."""
    kept, scales = np.empty(x.shape, np.int8), np.empty(x.shape[axis], np.float32)
    for index in range(x.shape[axis]):
        line = x[index] if axis == 0 else x[:, index]
        scales[index] = max(np.abs(line).max() / np.float32(steps), np.float32(tiniest))
        rounded = np.clip(np.rint(line / scales[index]), -steps, steps)
        if axis == 0:
            kept[index] = rounded
        else:
            kept[:, index] = rounded
    return kept, scales


def rescaled_bytes(kept: Signed, scale: Floats) -> tuple[Signed, Floats]:
    """(s8 [A,B], its one scale [])."""
    common = scale.max()
    wanted = np.rint(kept.astype(np.float32) * scale[:, None] / common)
    return np.clip(wanted, -SIGNED_STEPS, SIGNED_STEPS).astype(np.int8), common


def clamped_bytes(x: Floats) -> Bytes:
    """u8 as x."""
    steps = np.rint(x / np.float32(CLAMPED_SCALE))
    return np.asarray(np.clip(steps, 0, 255), np.uint8)


def product_sums(left: Bytes, centre: int, right: Signed) -> Whole:
    """sum over k of (left - centre) right, [M,N]."""
    sums: Whole = (left.astype(np.int64) - centre) @ right.astype(np.int64)
    return sums


def byte_product(
    left: Bytes,
    left_scale: Floats,
    centre: int,
    right: Signed,
    right_scale: Floats,
    bias: Floats | None,
) -> Floats:
    """f32 [M,N]."""
    y = product_sums(left, centre, right).astype(np.float32) * (left_scale * right_scale)
    return np.asarray(y if bias is None else y + bias, np.float32)


def _window(x: Whole, row: int, column: int, size: tuple[int, int], stride: int) -> Whole:
    """What a kernel's element at (row, column) meets, of x [N,H,W,C] with its padding."""
    height, width = size
    return x[
        :,
        row : row + stride * (height - 1) + 1 : stride,
        column : column + stride * (width - 1) + 1 : stride,
    ]


def _padded(x: Bytes, centre: int, padding: int) -> Whole:
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return np.pad(x.astype(np.int64) - centre, around)


def byte_depthwise(
    x: Bytes,
    centre: int,
    kernel: Signed,
    factor: Floats,
    shift: Floats | None,
    stride: int,
    padding: int,
) -> Bytes:
    """u8 [N,H',W',C]."""
    side = kernel.shape[2]
    height, width = ((each + 2 * padding - side) // stride + 1 for each in x.shape[1:3])
    padded = _padded(x, centre, padding)
    sums: Any = np.zeros((x.shape[0], height, width, x.shape[3]), np.int64)
    for row in range(side):
        for column in range(side):
            seen = _window(padded, row, column, (height, width), stride)
            sums += seen * kernel[:, 0, row, column].astype(np.int64)
    if shift is not None:
        sums += np.clip(np.rint(shift), -MOST_SHIFT, MOST_SHIFT).astype(np.int64)
    y = np.rint(sums.astype(np.float32) * factor) + centre
    return np.asarray(np.clip(y, 0, 255), np.uint8)


def byte_kernel_sums(x: Bytes, grad: Bytes, side: int, stride: int, padding: int) -> Whole:
    """[C,k k]."""
    padded, steps = _padded(x, 0, padding), grad.astype(np.int64) - CENTRE
    size = (grad.shape[1], grad.shape[2])
    columns = [
        (_window(padded, row, column, size, stride) * steps).sum((0, 1, 2))
        for row in range(side)
        for column in range(side)
    ]
    return np.stack(columns, 1)


def masked_bytes(mask: Bytes, grad: Bytes) -> Bytes:
    """u8 as mask."""
    return np.where(mask > 0, grad, np.uint8(CENTRE))


def byte_sums(turned: Bytes) -> Whole:
    """[C]."""
    sums: Whole = (turned.astype(np.int64) - CENTRE).sum(1)
    return sums


def pack_bits(x: Bytes) -> Bytes:
    """u8 [n/8]."""
    return masks_reference.pack_mask(x.astype(np.float32) - 1)


def masked_by_bits(bits: Bytes, grad: Bytes) -> Bytes:
    """u8 as grad."""
    passes = masks_reference.apply_mask(bits, np.ones(grad.shape, np.float32)) > 0
    return np.where(passes, grad, np.uint8(CENTRE))
