"""A feature map in 8 bits: groups of values, each group with its own lowest value and step.

A group is one channel where a channel has enough pixels, else several channels, so that the two
floats of a group stay a small part of it. What is read back differs from the map by at most half a
step, which is 1/510 of its group's range. Letters: C x h x w the map, G groups of S values.
"""

from __future__ import annotations

import math

import numpy as np

from mobiletl.device.bundle.arrays import Floats

LEVELS = 255
# A group has at least so many values: its 8 bytes are a quarter of it at most.
LEAST_GROUP = 32
_FLOAT = np.dtype("<f4")


class Codec:
    """Encodes and decodes maps of one shape."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Take the shape (C, h, w) of every map."""
        channels, height, width = shape
        pixels = height * width
        self._shape = shape
        self._values = channels * pixels
        self._group = pixels * math.ceil(LEAST_GROUP / pixels)
        self._groups = math.ceil(self._values / self._group)

    @property
    def size(self) -> int:
        """Bytes of an encoded map."""
        return self._groups * (self._group + 2 * _FLOAT.itemsize)

    def encode(self, h: Floats) -> bytes:
        """Return `h` f32[C,h,w] as G lowest values, G steps, and G x S bytes."""
        flat = h.reshape(-1)
        # The last group is made up with copies of the last value, which change no range.
        rows = np.pad(flat, (0, self._groups * self._group - self._values), "edge")
        rows = rows.reshape(self._groups, self._group)
        # A map that is not finite comes back so: the loss that it makes is noticed.
        with np.errstate(invalid="ignore"):
            lowest = rows.min(axis=1).astype(_FLOAT)
            step = ((rows.max(axis=1) - lowest) / np.float32(LEVELS)).astype(_FLOAT)
            scaled = (rows - lowest[:, None]) / np.where(step > 0, step, np.float32(1))[:, None]
            levels = np.clip(np.rint(scaled), 0, LEVELS).astype(np.uint8)
        return b"".join(part.tobytes() for part in (lowest, step, levels))

    def decode(self, content: bytes, out: Floats) -> None:
        """Write the map that `content` encodes to `out` f32[C,h,w]."""
        side = self._groups * _FLOAT.itemsize
        lowest = np.frombuffer(content, _FLOAT, self._groups)
        step = np.frombuffer(content, _FLOAT, self._groups, side)
        levels = np.frombuffer(content, np.uint8, offset=2 * side)
        rows = levels.reshape(self._groups, self._group).astype(np.float32)
        with np.errstate(invalid="ignore"):
            rows *= step[:, None]
            rows += lowest[:, None]
        out[...] = rows.reshape(-1)[: self._values].reshape(self._shape)
