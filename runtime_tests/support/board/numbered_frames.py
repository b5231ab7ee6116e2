"""Pictures that hold a number which survives JPEG and video: the tests tell frames apart by it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT, BITS = 160, 120, 16
COLUMN = WIDTH // BITS


def numbered(number: int) -> np.ndarray:
    """Return RGB pixels of `number`: a bit is a column, white above black or black above white.

    So all frames are equally bright, as a camera's are that has settled.
    """
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(BITS):
        rows = slice(0, HEIGHT // 2) if number >> bit & 1 else slice(HEIGHT // 2, HEIGHT)
        pixels[rows, bit * COLUMN : (bit + 1) * COLUMN] = 255
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """Return the number that such a picture holds."""
    middles = pixels[HEIGHT // 4, COLUMN // 2 :: COLUMN].mean(axis=-1)
    return sum(1 << bit for bit, value in enumerate(middles) if value > 127)


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
