"""A feature map in 8 or 4 bits: groups of values, each group with its own lowest value and step.

A group is one channel where a channel has enough pixels, else several channels, so that the two
floats of a group stay a small part of it. What is read back differs from the map by at most half a
step: 1/510 of its group's range in 8 bits, 1/30 in 4. Letters: C x h x w the map, G groups of S
values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mobiletl.device.bundle.arrays import Floats

WIDE, NARROW = 8, 4
# A group has at least so many values: its lowest value and its step are a quarter of it at most.
LEAST_GROUP = 32
_FLOATS: dict[int, np.dtype[Any]] = {WIDE: np.dtype("<f4"), NARROW: np.dtype("<f2")}


class Codec:
    """Encodes and decodes maps of one shape."""

    def __init__(self, shape: tuple[int, int, int], bits: int = WIDE) -> None:
        """Take the shape (C, h, w) of every map; `bits` is WIDE or NARROW."""
        channels, height, width = shape
        pixels = height * width
        self.bits = bits
        self._shape = shape
        self._values = channels * pixels
        self._group = pixels * math.ceil(LEAST_GROUP / pixels)
        self._groups = math.ceil(self._values / self._group)
        self._levels = 2**bits - 1
        self._float = _FLOATS[bits]

    @property
    def size(self) -> int:
        """Bytes of an encoded map."""
        values = math.ceil(self._groups * self._group * self.bits / WIDE)
        return self._groups * 2 * self._float.itemsize + values

    def encode(self, h: Floats) -> bytes:
        """Return `h` f32[C,h,w] as G lowest values, G steps, and G x S values."""
        flat = h.reshape(-1)
        # The last group is made up with copies of the last value, which change no range.
        rows = np.pad(flat, (0, self._groups * self._group - self._values), "edge")
        rows = rows.reshape(self._groups, self._group)
        # A map that is not finite comes back so: the loss that it makes is noticed.
        with np.errstate(invalid="ignore", over="ignore"):
            lowest = rows.min(axis=1).astype(self._float)
            step = ((rows.max(axis=1) - lowest) / np.float32(self._levels)).astype(self._float)
            scaled = (rows - lowest[:, None]) / np.where(step > 0, step, np.float32(1))[:, None]
            levels = np.clip(np.rint(scaled), 0, self._levels).astype(np.uint8)
        packed = levels.reshape(-1)
        if self.bits == NARROW:
            packed = np.pad(packed, (0, len(packed) % 2))
            packed = packed[0::2] | packed[1::2] << NARROW
        return b"".join(part.tobytes() for part in (lowest, step, packed))

    def decode(self, content: bytes, out: Floats) -> None:
        """Write the map that `content` encodes to `out` f32[C,h,w]."""
        side = self._groups * self._float.itemsize
        lowest = np.frombuffer(content, self._float, self._groups).astype(np.float32)
        step = np.frombuffer(content, self._float, self._groups, side).astype(np.float32)
        levels = np.frombuffer(content, np.uint8, offset=2 * side)
        if self.bits == NARROW:
            levels = np.stack([levels & self._levels, levels >> NARROW], axis=1).reshape(-1)
            levels = levels[: self._groups * self._group]
        rows = levels.reshape(self._groups, self._group).astype(np.float32)
        with np.errstate(invalid="ignore"):
            rows *= step[:, None]
            rows += lowest[:, None]
        out[...] = rows.reshape(-1)[: self._values].reshape(self._shape)
