"""Whatever colours a picture has become the 8-bit RGB that a person sees, a strip at a time.

A strip is some rows of the whole picture, in its own mode. What has to be known of the whole (the
darkest and the brightest grey of formats that state no range) is found first. So a large picture is
never there twice. Letters: H x W the picture in pixels, f the factor it is reduced by.
"""

from __future__ import annotations

from typing import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

WHITE = (255, 255, 255)
# A strip has about so many pixels: little memory, and few enough calls.
STRIP_PIXELS = 1 << 16

ToRgb = Callable[[Image.Image], Image.Image]


def strip_rows(width: int, factor: int) -> int:
    """Return the rows of a strip, a multiple of `factor`."""
    return factor * max(1, STRIP_PIXELS // (width * factor))


def conversion(image: Image.Image) -> ToRgb:
    """Return what makes RGB of strips of `image`, which is loaded if all of it has to be seen."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Before Pillow 11 a 16-bit PNG comes as 32-bit integers.
        return _from_sixteen_bits
    if image.mode in ("I", "F"):
        low, high = _range(image)
        return lambda strip: _grey(_stretched(np.asarray(strip), low, high))
    if "transparency" in image.info or {"A", "a"} & set(image.getbands()):
        return _on_white
    return lambda strip: strip.convert("RGB")


def reduced(image: Image.Image, factor: int) -> Image.Image:
    """Return a loaded `image` as RGB, each pixel the mean of `factor` x `factor` of its own.

    Of RGB that is not reduced nothing is copied. Else [H,W] becomes [ceil(H/f),ceil(W/f)].
    """
    to_rgb = conversion(image)
    if factor == 1 and image.mode == "RGB" and "transparency" not in image.info:
        return image
    return assembled(_strips(image, factor), image.size, factor, to_rgb)


def assembled(
    strips: Iterator[Image.Image], size: tuple[int, int], factor: int, to_rgb: ToRgb
) -> Image.Image:
    """Put together what `reduced` returns, from strips of `strip_rows` rows of the picture."""
    width, height = size
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    top = 0
    for strip in strips:
        rgb = to_rgb(strip)
        part = rgb if factor == 1 else rgb.reduce(factor)
        result.paste(part, (0, top))
        top += part.height
    return result


def _strips(image: Image.Image, factor: int) -> Iterator[Image.Image]:
    rows = strip_rows(image.width, factor)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(strip: Image.Image) -> Image.Image:
    colours = strip.convert("RGBA")
    rgb = Image.new("RGB", colours.size, WHITE)
    rgb.paste(colours, mask=colours.getchannel("A"))
    return rgb


def _grey(values: npt.NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def _from_sixteen_bits(strip: Image.Image) -> Image.Image:
    return _grey(eight_bits(np.asarray(strip).astype(np.uint16)))


def eight_bits(grey: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return grey / 257, rounded; there are no ties, 257 is odd."""
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _finite(grey: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    return np.nan_to_num(grey.astype(np.float32), posinf=0.0, neginf=0.0)


def _range(image: Image.Image) -> tuple[float, float]:
    """Return the least and the largest value of the whole; what is not finite counts as 0."""
    image.load()
    low, high = np.inf, -np.inf
    for strip in _strips(image, 1):
        found = _finite(np.asarray(strip))
        low, high = min(low, float(found.min())), max(high, float(found.max()))
    return low, high


def _stretched(grey: npt.NDArray[np.generic], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return `low` as 0 and `high` as 255; these formats state no range of their own."""
    values = _finite(grey)
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    stretched: npt.NDArray[np.uint8] = np.rint((values - low) * (255 / (high - low))).astype(
        np.uint8
    )
    return stretched
