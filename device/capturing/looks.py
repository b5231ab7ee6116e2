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

# Short side, in pixels, at which sharpness is measured: a little more than networks see.
SHARP_SIDE = 128
# Side of the small picture.
SMALL_SIDE = 24
# Of 255: flat pictures differ by noise alone, which is not made larger than this.
LEAST_CONTRAST = 8.0


@dataclass(frozen=True, eq=False)
class Look:
    """What is left of a frame after looking at it."""

    sharpness: float
    """Variance of the Laplacian of the grey picture; says something beside others only."""
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
    share = SHARP_SIDE / min(grey.size)
    if share < 1:
        size = (max(round(grey.width * share), 3), max(round(grey.height * share), 3))
        grey = grey.resize(size, Image.Resampling.BOX)
    g = np.asarray(grey, np.float32)
    if min(g.shape) < 3:
        return 0.0
    edges = g[1:-1, :-2] + g[1:-1, 2:] + g[:-2, 1:-1] + g[2:, 1:-1] - 4 * g[1:-1, 1:-1]
    return float(edges.var())
