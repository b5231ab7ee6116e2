"""Read a large PNG strip by strip, so that it is never in memory whole.

A PNG is one compressed stream of rows, and each row is written as differences to its neighbours
(PNG specification, sections 7 and 9). Pillow undoes the differences in C, but only of whole
pictures. So a strip is made into one: the last row of the strip before, as it is, then the strip's
rows as they are in the file. What Pillow makes of it is what it makes of these rows in the whole
picture, bit for bit. Interlaced pictures have their rows in another order, and are not for this.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Iterator

import numpy as np
from PIL import Image

from mobiletl.device.bundle.colours import assembled, conversion, strip_rows

_SIGNATURE_BYTES = 8
_PIECE = 1 << 16
_TRUNCATED = "image file is truncated"
# Samples of a pixel by the colour type of the header.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Pillow's modes of one to four bytes a pixel, as which the bytes of a row come back unchanged.
_PLAIN = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class _Rows:
    """How the rows are stored: `row_bytes` in each, differences over `step` bytes."""

    row_bytes: int
    step: int


def reduced_png(image: Image.Image, file: BinaryIO, factor: int) -> Image.Image:
    """Return what `colours.reduced` would of an opened, not interlaced PNG that is not loaded.

    Raises OSError for a truncated file, zlib.error for a damaged one.
    """
    rows = strip_rows(image.width, factor)
    strips = _strips(image, file, rows)
    return assembled(strips, image.size, factor, conversion(image))


def described(image: Image.Image, file: BinaryIO) -> Image.Image:
    """Return a picture of one pixel that has the picture's EXIF: Pillow looks for it behind the
    pixels, and reads these first.
    """
    stub = Image.new("L", (1, 1))
    stub.info = dict(image.info)
    exif = b"".join(_pieces(file, b"eXIf"))
    if exif and "exif" not in stub.info:
        stub.info["exif"] = b"Exif\0\0" + exif
    return stub


def _strips(image: Image.Image, file: BinaryIO, rows: int) -> Iterator[Image.Image]:
    """Yield the picture in its own mode, `rows` rows at a time."""
    layout = _layout(file, image.width)
    inflated = _Inflated(file)
    # The row above the first counts as zeros.
    above = bytes(layout.row_bytes)
    for top in range(0, image.height, rows):
        height = min(rows, image.height - top)
        filtered = inflated.read(height * (1 + layout.row_bytes))
        # Stored, not compressed: this is no more than copying.
        stream = zlib.compress(b"\0" + above + filtered, 0)
        strip, above = _unfiltered(image, stream, height, layout)
        yield strip


def _layout(file: BinaryIO, width: int) -> _Rows:
    file.seek(_SIGNATURE_BYTES + 8 + 8)
    depth, colours = file.read(2)
    bits = depth * _SAMPLES[colours]
    return _Rows((width * bits + 7) // 8, max(1, bits // 8))


def _unfiltered(
    image: Image.Image, stream: bytes, height: int, layout: _Rows
) -> tuple[Image.Image, bytes]:
    """Return `height` rows in the picture's own mode, and the bytes of the last one."""
    rawmode = _rawmode(image)
    if layout.step in _PLAIN:
        plain = _PLAIN[layout.step]
        size = (layout.row_bytes // layout.step, 1 + height)
        content = Image.frombytes(plain, size, stream, "zip", plain).tobytes()
        rows = content[layout.row_bytes :]
        strip = Image.frombytes(image.mode, (image.width, height), rows, "raw", rawmode)
        return _as_in(image, strip), content[-layout.row_bytes :]
    # 16 bits a sample, of which Pillow keeps the upper 8: the lower ones come in a second pass.
    size = (image.width, 1 + height)
    upper = Image.frombytes(image.mode, size, stream, "zip", rawmode)
    lower = Image.frombytes(image.mode, size, stream, "zip", rawmode.replace("16B", "16L"))
    box = (0, height, image.width, 1 + height)
    last = [np.asarray(half.crop(box)).reshape(-1) for half in (upper, lower)]
    strip = upper.crop((0, 1, image.width, 1 + height))
    return _as_in(image, strip), np.stack(last, axis=-1).tobytes()


def _rawmode(image: Image.Image) -> str:
    arguments = image.tile[0][3]  # type: ignore[attr-defined]
    return str(arguments if isinstance(arguments, str) else arguments[0])


def _as_in(image: Image.Image, strip: Image.Image) -> Image.Image:
    """Give a strip the palette and the transparency of the picture."""
    strip.info = dict(image.info)
    if image.palette is not None:
        strip.putpalette(bytes(image.palette.palette), "RGB")
    return strip


class _Inflated:
    """The rows of a PNG as one stream, inflated as far as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._pieces = _pieces(file, b"IDAT")
        self._inflater = zlib.decompressobj()
        self._waiting = b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes; raises OSError where the file ends before."""
        found = bytearray()
        while len(found) < size:
            if not self._waiting:
                piece = next(self._pieces, None)
                if piece is None:
                    raise OSError(_TRUNCATED)
                self._waiting = piece
            found += self._inflater.decompress(self._waiting, size - len(found))
            self._waiting = self._inflater.unconsumed_tail
            if self._inflater.eof and len(found) < size:
                raise OSError(_TRUNCATED)
        return bytes(found)


def _pieces(file: BinaryIO, wanted: bytes) -> Iterator[bytes]:
    """Yield what the chunks `wanted` of a PNG hold, a little at a time."""
    file.seek(_SIGNATURE_BYTES)
    while True:
        head = file.read(8)
        if len(head) < 8:
            return
        left, kind = struct.unpack(">I4s", head)
        if kind == wanted:
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    return
                left -= len(piece)
                yield piece
        file.seek(left + 4, 1)
