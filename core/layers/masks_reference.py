"""The two mask operators in NumPy, bit by bit: slow, and meant to be read.

`masks.py` states the layout and the rules for -0.0, NaN and infinities. Tests compare every
implementation, on whatever runtime, with these loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_mask(a: NDArray[Any]) -> NDArray[np.uint8]:
    """The mask of `a >= 0`: uint8[m], m = ceil(n / 8), for `a` of any shape and n elements."""
    elements = a.flatten(order="C")
    size = -(-elements.size // 8)
    packed = np.zeros(size, dtype=np.uint8)
    for index, element in enumerate(elements):
        if element >= 0:
            k, j = divmod(index, size)
            packed[j] += 2**k
    return packed


def apply_mask(packed: NDArray[np.uint8], grad: NDArray[Any]) -> NDArray[Any]:
    """`grad` times its bits; shape and type of `grad`."""
    flat = grad.flatten(order="C")
    bits = np.zeros_like(flat)
    for index in range(flat.size):
        k, j = divmod(index, packed.size)
        bits[index] = packed[j] // 2**k % 2
    with np.errstate(invalid="ignore"):  # infinity times zero
        return (flat * bits).reshape(grad.shape)
