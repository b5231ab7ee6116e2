"""The two operators of `bytes.py` in NumPy, channel by channel: slow, and meant to be read.

Tests compare every implementation, on whatever runtime, with these loops. The gradient of a kernel
is given as well, from whole numbers: the bytes are summed up before any scale is multiplied in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobiletl.core.layers.bytes import STEPS, TINIEST

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def pack_bytes(x: Floats, axis: int) -> tuple[Bytes, Floats, Bytes]:
    """(bytes, as x; scale [C]; zero [C])."""
    channels = np.moveaxis(x, axis, 0)
    kept = np.empty(channels.shape, np.uint8)
    scales, zeros = np.empty(len(channels), np.float32), np.empty(len(channels), np.uint8)
    for index, channel in enumerate(channels):
        low, high = min(channel.min(), np.float32(0)), max(channel.max(), np.float32(0))
        scale = max((high - low) / np.float32(STEPS), np.float32(TINIEST))
        zero = np.rint(-low / scale)
        kept[index] = np.clip(np.rint(channel / scale) + zero, 0, STEPS)
        scales[index], zeros[index] = scale, zero
    return np.moveaxis(kept, 0, axis), scales, zeros


def unpack_bytes(kept: Bytes, scale: Floats, zero: Bytes, axis: int) -> Floats:
    """x^."""
    channels = np.moveaxis(kept, axis, 0).astype(np.int64)
    shape = (-1,) + (1,) * (kept.ndim - 1)
    x = (channels - zero.reshape(shape).astype(np.int64)).astype(np.float32) * scale.reshape(shape)
    return np.moveaxis(x.astype(np.float32), 0, axis)


def pointwise_gradient(grad: NDArray[Any], kept: Bytes, scale: Floats, zero: Bytes) -> NDArray[Any]:
    """dW [C',C] of a 1x1 convolution, in float64; grad [N,C',H,W], kept [N,C,H,W]."""
    steps = kept.astype(np.int64) - zero.astype(np.int64).reshape(1, -1, 1, 1)
    sums: NDArray[Any] = np.einsum("nohw,nchw->oc", grad.astype(np.float64), steps)
    return sums * scale.astype(np.float64)
