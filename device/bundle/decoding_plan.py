"""How an opened picture is decoded, and how much memory that takes at most.

A picture is made smaller while it is decoded where it is much larger than a network needs: a JPEG
by its decoder, at a half, a quarter or an eighth; anything else by means of f x f pixels, as soon
as its pixels are there; a PNG strip by strip, before they all are. What a picture takes then
follows from its header. The figures are measured (runtime_tests/whole/test_decoding_memory.py).
Letters: H x W the picture in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, JpegImagePlugin

from mobiletl.device.bundle.colours import strip_rows
from mobiletl.device.bundle.jpeg_markers import read_markers

# What one picture may take while it is decoded, unless a person says otherwise.
DECODING_LIMIT = 128_000_000

_RGB_BYTES = 4
# Pillow has one byte for a pixel of these modes, two for 16 bits, and four for everything else.
_ONE_BYTE = ("1", "L", "P")
# What a decoder holds beside the pixels that Pillow gets, in bytes a pixel. WebP: two pictures of
# an animation in RGBA, and a copy to hand over. HEIC: what it is decoded to before it is RGB. TIFF,
# if it is compressed: one strip, which may be all of it.
_BESIDE = {"WEBP": 12, "HEIF": 4, "TIFF": 4}
# The readers that are written in Python keep what they have read, and make a list of it.
_BESIDE_OTHERS = 8
# Decoders that read rows where they lie, and need nothing beside the pixels.
_IN_PLACE = ("raw", "gif")
# Pieces of a strip on its way to RGB, in bytes a pixel.
_STRIP_BYTES = 48
# More rows than these are never held for one row of the result.
_LARGEST_FACTOR = 16
# How often a picture is halved further than a network wants, where it would else be refused.
_HALVINGS = 3


@dataclass(frozen=True)
class Decoding:
    """`scale` is the JPEG decoder's own, `factor` that of the means, `strips` says that a PNG is
    read so; `bytes` is the most that is held, a crop of the result counted in.
    """

    scale: int
    factor: int
    strips: bool
    bytes: int


def plan_decoding(image: Image.Image, file: BinaryIO, short_side: int, limit: int) -> Decoding:
    """Plan for a result whose short side has `short_side` pixels at least, if it can have them.

    Where that takes more than `limit` bytes, the result is smaller if that helps.
    """
    beside = _beside_pixels(image, file)
    wanted = [max(1, short_side >> halving) for halving in range(_HALVINGS)]
    plans = [_planned(image, beside, want) for want in wanted]
    return next((plan for plan in plans if plan.bytes <= limit), plans[0])


def _planned(image: Image.Image, beside: int, short_side: int) -> Decoding:
    scale = _jpeg_scale(image, short_side)
    width, height = (-(-side // scale) for side in image.size)
    factor = min(max(1, min(width, height) // short_side), _LARGEST_FACTOR)
    result = _RGB_BYTES * -(-width // factor) * -(-height // factor)
    strips = factor > 1 and image.format == "PNG" and not image.info.get("interlace")
    strip = _STRIP_BYTES * width * min(strip_rows(width, factor), height)
    held = beside
    if not strips:
        held += width * height * _pixel_bytes(image.mode)
    if factor > 1 or image.mode != "RGB":
        held += result + strip
    # Once it is decoded a picture is turned upright, or a crop of it is made.
    return Decoding(scale, factor, strips, max(held, 2 * result))


def _jpeg_scale(image: Image.Image, short_side: int) -> int:
    """Return the scale that Pillow's `draft` chooses."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    largest = min(image.size) // short_side
    return next((scale for scale in (8, 4, 2) if largest >= scale), 1)


def _pixel_bytes(mode: str) -> int:
    if mode in _ONE_BYTE:
        return 1
    return 2 if mode.startswith("I;16") else 4


def _beside_pixels(image: Image.Image, file: BinaryIO) -> int:
    """Return what the decoder of the picture's format holds beside its pixels."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        return read_markers(file).coefficient_bytes
    pixels = image.size[0] * image.size[1]
    tiles = getattr(image, "tile", [])
    if image.format == "PNG" or (tiles and all(tile[0] in _IN_PLACE for tile in tiles)):
        return 0
    return _BESIDE.get(image.format or "", _BESIDE_OTHERS) * pixels
