"""A part of a resized picture, without resizing what the part does not show.

Rows are resized first and columns after them, each by sums of a few neighbours with weights that
follow from the lengths of the side alone. So only the part's columns need the second pass. Where a
resized pixel begins together with one of the picture, the picture can be cut there. The bits are
those of the whole picture, resized and then cropped: by every Pillow, but for pictures more than
twice as tall as wide, whose columns Pillow 13 resizes first (python-pillow/Pillow#9549).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, gcd

from PIL import Image

_BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class _Stretch:
    """What has to be resized of one side so that some resized pixels are found in it."""

    start: int
    stop: int
    """Pixels of the picture that are looked at, those that the filter reaches over to included."""
    box: tuple[int, int]
    """Pixels, counted from `start`, that become the resized ones."""
    resized: int
    """How many they become."""
    skipped: int
    """How many of those come before the wanted ones."""


def resized_part(
    image: Image.Image, size: tuple[int, int], corner: tuple[int, int], part: tuple[int, int]
) -> Image.Image:
    """Return `part` (width, height), from `corner` (left, top) on, of RGB `image` made `size`.

    The filter is Pillow's antialiased bilinear one. The part may not reach beyond `size`.
    """
    across = _stretch(image.width, size[0], corner[0], part[0])
    down = _stretch(image.height, size[1], corner[1], part[1])
    seen = _cut(image, (across.start, down.start, across.stop, down.stop))
    # A pass whose side keeps its length is left out by Pillow, so this is its first one alone.
    box = (across.box[0], 0, across.box[1], seen.height)
    narrow = seen.resize((across.resized, seen.height), _BILINEAR, box)
    narrow = _cut(narrow, (across.skipped, 0, across.skipped + part[0], seen.height))
    box = (0, down.box[0], part[0], down.box[1])
    resized = narrow.resize((part[0], down.resized), _BILINEAR, box)
    return _cut(resized, (0, down.skipped, part[0], down.skipped + part[1]))


def _stretch(side: int, resized: int, first: int, count: int) -> _Stretch:
    """Find the least that gives `count` pixels from `first` on, of S = `side` and R = `resized`.

    Every R / gcd(S, R) resized pixels, one begins where a pixel of the picture does. From there on
    the filter's weights are the same numbers as from the edge on.
    """
    common = gcd(side, resized)
    many, few = side // common, resized // common
    begin, end = first // few, -(-(first + count) // few)
    reach = ceil(max(side / resized, 1.0)) + 1
    start, stop = max(begin * many - reach, 0), min(end * many + reach, side)
    box = (begin * many - start, end * many - start)
    return _Stretch(start, stop, box, (end - begin) * few, first - begin * few)


def _cut(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    return image if box == (0, 0, *image.size) else image.crop(box)
