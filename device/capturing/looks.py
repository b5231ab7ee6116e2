"""What a frame is judged by: how sharp it is, and a small grey picture of it.

Only NumPy and Pillow are needed, and a few milliseconds. How the two measures and their sizes were
chosen is measured in docs/capture.md (`python -m bench.capture`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Floats, Pixels
from mobiletl.device.cameras.warmup import BLACK, brightness

# Short side, in pixels, at which sharpness is measured; more of it is more noise.
SHARP_SIDE = 128
# Of a variance of the Laplacian: the noise of little light makes up to about so much fine detail...
NOISE = 20.0
# ... and where there is hardly any coarse detail, fine detail is not held against it alone.
LEAST_COARSE = 60.0
# Side of the small picture.
SMALL_SIDE = 24
# Of 255: flat pictures differ by noise alone, which is not made larger than this.
LEAST_CONTRAST = 8.0


@dataclass(frozen=True, eq=False)
class Look:
    """What is left of a frame after looking at it."""

    sharpness: float
    """How much fine detail there is beside coarse: the variance of the Laplacian of the grey
    picture, by that of the picture at half the size. Photographs in focus have 0.3 to 1, whatever
    they show, and blurred ones about 0.2; the variance alone differs 40-fold among sharp ones.
    """
    small: Floats
    """f32[SMALL_SIDE * SMALL_SIDE]: the grey picture, its mean 0 and its contrast 1."""
    black: bool = False
    """Whether it is as dark as with a covered lens."""


def look_at(pixels: Pixels) -> Look:
    """Look at RGB pixels uint8[H,W,3]."""
    grey = Image.fromarray(pixels).convert("L")
    return Look(_sharpness(grey), small_of(grey), brightness(pixels) < BLACK)


def small_of(image: Image.Image) -> Floats:
    """Return the small grey picture of `image`, without its brightness and contrast.

    So a lamp or an automatic exposure makes no difference, as far as it changes all of a picture.
    """
    grey = image.convert("L").resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX)
    values = np.asarray(grey, np.float32).ravel()
    values -= values.mean()
    return values / np.float32(max(float(values.std()), LEAST_CONTRAST))


def difference(small: Floats, others: Floats) -> Floats:
    """Return how far `small` f32[S] is from each of `others` f32[P,S]: the root of the mean square.

    0 is the same picture; two that have nothing in common are about 1.4 apart.
    """
    apart: Floats = np.sqrt(np.square(others - small).mean(axis=1))
    return apart


def _sharpness(grey: Image.Image) -> float:
    side = min(SHARP_SIDE, *grey.size)
    fine, coarse = (_edges(grey, size) for size in (side, side // 2))
    return max(fine - NOISE, 0.0) / (coarse + LEAST_COARSE)


def _edges(grey: Image.Image, side: int) -> float:
    """Return the variance of the Laplacian of `grey` with so many pixels on its short side."""
    share = side / min(grey.size)
    size = (round(grey.width * share), round(grey.height * share))
    if min(size) < 3:
        return 0.0
    g = np.asarray(grey.resize(size, Image.Resampling.BOX), np.float32)
    edges = g[1:-1, :-2] + g[1:-1, 2:] + g[:-2, 1:-1] + g[2:, 1:-1] - 4 * g[1:-1, 1:-1]
    return float(edges.var())
