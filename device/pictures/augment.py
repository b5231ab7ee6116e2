"""Random crops and flips of training pictures.

They follow torchvision's RandomResizedCrop and RandomHorizontalFlip, with Pillow's antialiased
bilinear filter. What is central and the same every time is `prepare` of the bundle's room. Letters:
H = W = resolution in pixels.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from mobiletl.device.bundle.manifest import Input

# Share of the picture's area and aspect ratio that a crop may have. 0.22 is the recipe of
# TinyTL (Cai et al., NeurIPS 2020); the ratio is torchvision's default.
AREA = (0.22, 1.0)
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10
FLIP_SHARE = 0.5

# Where the streams of the pictures start, away from those of the order and the split.
STREAM = 0x6175676D


def training_short_side(size: Input) -> int:
    """Pixels a picture's short side needs so that the smallest crop is not enlarged."""
    return math.ceil(size.resolution / math.sqrt(AREA[0] * RATIO[0]))


def random_stream(picture: int, view: int) -> np.random.Generator:
    """Return the draws of one view of one picture; they depend on nothing else.

    So training can resume anywhere without having saved a generator, and a view can be kept.
    """
    return np.random.default_rng((STREAM, picture, view))


def augmented(image: Image.Image, size: Input, stream: np.random.Generator) -> Image.Image:
    """Return a random crop of `image` as H x W, perhaps mirrored."""
    left, top, width, height = crop_box(image.width, image.height, stream)
    side = size.resolution
    patch = image.crop((left, top, left + width, top + height))
    patch = patch.resize((side, side), Image.Resampling.BILINEAR)
    if stream.random() < FLIP_SHARE:
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return patch


def crop_box(width: int, height: int, stream: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw (left, top, width, height) of a crop, as torchvision's RandomResizedCrop does.

    After ten draws that do not fit, which only long and narrow pictures see, the largest central
    crop of an allowed ratio.
    """
    area = width * height
    for _ in range(ATTEMPTS):
        target = area * stream.uniform(*AREA)
        ratio = math.exp(stream.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        crop_width = round(math.sqrt(target * ratio))
        crop_height = round(math.sqrt(target / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(stream.integers(0, height - crop_height + 1))
            left = int(stream.integers(0, width - crop_width + 1))
            return left, top, crop_width, crop_height
    crop_width, crop_height = width, height
    if width / height < RATIO[0]:
        crop_height = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        crop_width = round(height * RATIO[1])
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height
