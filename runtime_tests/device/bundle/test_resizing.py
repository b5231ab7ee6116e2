"""A part of a resized picture has the bits of the whole one, resized by Pillow and then cropped."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.resizing import resized_part

Size = Tuple[int, int]
BILINEAR = Image.Resampling.BILINEAR


def noise(size: Size) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def middle(size: Size, side: int) -> Size:
    return round((size[0] - side) / 2), round((size[1] - side) / 2)


# Cameras' sizes, and some of which no pixel begins with another.
SIZES = [(640, 480), (480, 640), (1280, 720), (720, 1280), (800, 600), (352, 288), (500, 375)]
SIZES += [(331, 997 // 2), (227, 311), (256, 256), (224, 224), (100, 70), (7, 3), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("short", "side"), [(256, 224), (73, 64), (183, 160), (32, 32)])
def test_the_middle_is_that_of_the_whole(size: Size, short: int, side: int) -> None:
    image = noise(size)
    resized = (int(short * size[0] / min(size)), int(short * size[1] / min(size)))
    left, top = middle(resized, side)
    whole = image.resize(resized, BILINEAR).crop((left, top, left + side, top + side))
    for source in (image, np.asarray(image)):
        part = resized_part(source, resized, (left, top), (side, side))
        np.testing.assert_array_equal(np.asarray(part), np.asarray(whole))


def test_so_is_any_other_part() -> None:
    image, resized, draw = noise((640, 360)), (455, 256), np.random.default_rng(1)
    whole = np.asarray(image.resize(resized, BILINEAR))
    for _ in range(50):
        left, top = (int(draw.integers(0, length)) for length in resized)
        width, height = (
            int(draw.integers(1, length - first + 1)) for length, first in zip(resized, (left, top))
        )
        source = image if draw.random() < 0.5 else np.asarray(image)
        part = resized_part(source, resized, (left, top), (width, height))
        np.testing.assert_array_equal(
            np.asarray(part), whole[top : top + height, left : left + width]
        )


def test_tall_pictures_are_the_same_for_every_pillow() -> None:
    # Pillow 13 begins with the columns where a picture is more than twice as tall as wide.
    image = noise((150, 600))
    rows_first = image.resize((64, 600), BILINEAR).resize((64, 256), BILINEAR)
    part = resized_part(image, (64, 256), (0, 96), (64, 64))
    np.testing.assert_array_equal(np.asarray(part), np.asarray(rows_first.crop((0, 96, 64, 160))))
