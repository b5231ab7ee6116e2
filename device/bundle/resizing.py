"""A part of a resized picture, without resizing what the part does not show.

Rows are resized first and columns after them, each by sums of a few neighbours with weights that
follow from the lengths of the side alone. So only the part's columns need the second pass. Where a
resized pixel begins together with one of the picture, what lies before it can be left out. The bits
are those of the whole picture, resized and then cropped: by every Pillow, but for pictures more
than twice as tall as wide, whose columns Pillow 13 resizes first (python-pillow/Pillow#9549).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd
from typing import Union

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Pixels

# An RGB picture of Pillow's, or contiguous RGB pixels uint8[H,W,3].
Source = Union[Image.Image, Pixels]

_BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class _Stretch:
    """What has to be resized of one side so that some resized pixels are found in it."""

    begin: int
    end: int
    """Pixels of the picture that become the resized ones."""
    resized: int
    """How many they become."""
    skipped: int
    """How many of those come before the wanted ones."""
    reach: int
    """How many pixels beyond `begin` and `end` the filter looks at, if they are there."""


def resized_part(
    source: Source, size: tuple[int, int], corner: tuple[int, int], part: tuple[int, int]
) -> Image.Image:
    """Return `part` (width, height), from `corner` (left, top) on, of `source` made `size`.

    The filter is Pillow's antialiased bilinear one. The part may not reach beyond `size`.
    """
    width, height = size_of(source)
    across = _stretch(width, size[0], corner[0], part[0])
    down = _stretch(height, size[1], corner[1], part[1])
    # A pass whose side keeps its length is left out by Pillow, so this is its first one alone.
    rows, top = _rows(source, down)
    box = (across.begin, 0, across.end, rows.height)
    narrow = _resized(rows, (across.resized, rows.height), box)
    # Pictures that are let go at once: with more of them the C library gives memory back to the
    # system and gets it again with every picture, which costs as much as resizing.
    del rows
    narrow = _cut(narrow, (across.skipped, 0, across.skipped + part[0], narrow.height))
    box = (0, down.begin - top, part[0], down.end - top)
    narrow = _resized(narrow, (part[0], down.resized), box)
    return _cut(narrow, (0, down.skipped, part[0], down.skipped + part[1]))


def size_of(source: Source) -> tuple[int, int]:
    """Return width and height."""
    if isinstance(source, np.ndarray):
        return source.shape[1], source.shape[0]
    return source.size


def _rows(source: Source, down: _Stretch) -> tuple[Image.Image, int]:
    """Return a picture with the rows that are needed, and the number of its first one."""
    if not isinstance(source, np.ndarray):
        return source, 0  # a copy would cost more than the rows that it saves
    top = max(down.begin - down.reach, 0)
    return Image.fromarray(source[top : down.end + down.reach]), top


def _stretch(side: int, resized: int, first: int, count: int) -> _Stretch:
    """Find the least that gives `count` pixels from `first` on, of S = `side` and R = `resized`.

    Every R / gcd(S, R) resized pixels, one begins where a pixel of the picture does. From there on
    the filter's weights are the same numbers as from the edge on.
    """
    common = gcd(side, resized)
    many, few = side // common, resized // common
    begin, end = first // few, -(-(first + count) // few)
    reach = ceil(max(side / resized, 1.0)) + 1
    return _Stretch(begin * many, end * many, (end - begin) * few, first - begin * few, reach)


def _resized(
    image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]
) -> Image.Image:
    whole = size == image.size and box == (0, 0, *image.size)
    return image if whole else image.resize(size, _BILINEAR, box)


def _cut(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    return image if box == (0, 0, *image.size) else image.crop(box)
