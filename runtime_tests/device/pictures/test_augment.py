"""Crops, flips and numbers: what torchvision's transforms give, from streams without memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import normalise
from mobiletl.device.pictures.augment import (
    AREA,
    RATIO,
    augmented,
    crop_box,
    random_stream,
    training_short_side,
)

SIZE = Input(resolution=32, resize=36, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def normalised(image: Image.Image) -> np.ndarray:
    """Normalise as written in docs/bundle.md, in double precision."""
    x = np.asarray(image, np.float64) / 255
    return ((x - np.array(SIZE.mean)) / np.array(SIZE.std)).transpose(2, 0, 1)


def test_training_writes_a_normalised_crop() -> None:
    out = np.full((3, 32, 32), np.nan, np.float32)
    crop = augmented(Image.new("RGB", (50, 40), (255, 0, 51)), SIZE, random_stream(1, 2))
    normalise(crop, SIZE, out)
    for channel, value in enumerate((1.0, 0.0, 0.2)):
        expected = (value - SIZE.mean[channel]) / SIZE.std[channel]
        np.testing.assert_allclose(out[channel], expected, rtol=1e-5)


def test_training_crop_is_resized_and_flipped() -> None:
    image = noise(50, 40)
    flips = 0
    for index in range(40):
        out = np.empty((3, 32, 32), np.float32)
        normalise(augmented(image, SIZE, random_stream(1, index)), SIZE, out)
        left, top, width, height = crop_box(50, 40, random_stream(1, index))
        patch = image.crop((left, top, left + width, top + height))
        expected = normalised(patch.resize((32, 32), Image.Resampling.BILINEAR))
        flipped = not np.allclose(out, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(out[:, :, ::-1] if flipped else out, expected, rtol=0, atol=1e-5)
        flips += flipped
    assert 10 <= flips <= 30


def test_streams_depend_on_picture_and_view_alone() -> None:
    first = random_stream(2**64 - 1, 3).random(4)
    np.testing.assert_array_equal(first, random_stream(2**64 - 1, 3).random(4))
    for other in ((2**64 - 1, 2), (2**64 - 2, 3), (3, 2**64 - 1)):
        assert (random_stream(*other).random(4) != first).all()


def test_crops_are_spread_over_area_ratio_and_place() -> None:
    boxes = [crop_box(200, 200, random_stream(0, index)) for index in range(2000)]
    areas = np.array([width * height for _, _, width, height in boxes]) / 200**2
    ratios = np.array([width / height for _, _, width, height in boxes])
    assert AREA[0] * 0.98 < areas.min() < 0.25
    assert 0.9 < areas.max() <= 1.0
    assert RATIO[0] * 0.98 < ratios.min() < 0.78
    assert 1.28 < ratios.max() < RATIO[1] * 1.02
    # The logarithm of the ratio is drawn evenly, so both directions are equally likely.
    assert abs(np.log(ratios).mean()) < 0.02
    slack = np.array([(left, 200 - width - left) for left, _, width, _ in boxes])
    assert (slack >= 0).all()
    assert abs((slack[:, 0] - slack[:, 1]).mean()) < 3


@pytest.mark.parametrize(
    ("size", "box"), [((5, 1000), (0, 496, 5, 7)), ((900, 9), (444, 0, 12, 9))]
)
def test_long_pictures_get_the_largest_central_crop(size: object, box: object) -> None:
    assert crop_box(*size, random_stream(0, 0)) == box  # type: ignore[misc]


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 50)])
def test_tiny_pictures_have_crops(size: tuple[int, int]) -> None:
    for index in range(50):
        left, top, width, height = crop_box(*size, random_stream(0, index))
        assert 0 <= left < left + width <= size[0]
        assert 0 <= top < top + height <= size[1]


def test_decoded_size_suffices_for_the_smallest_crop() -> None:
    side = training_short_side(SIZE)
    assert math.sqrt(side * side * AREA[0] * RATIO[0]) >= SIZE.resolution
