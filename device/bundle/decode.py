"""Decode one picture to 8-bit RGB, whatever is inside it: a file, or the bytes of one.

What it may hold and what becomes of it:

    EXIF orientation          applied
    CMYK, YCbCr, HSV          converted
    transparency of any kind  put on white
    16-bit grey               scaled from 0..65535 to 0..255
    32-bit and float grey     stretched from its own minimum..maximum to 0..255
    animation, several pages  the first picture
    HEIC, as phones write it  where the package pillow-heif is installed
    everything else           UnreadablePicture, with the reason

A picture much larger than a network needs comes smaller, and what would take more memory than it
may is refused: `decoding_plan.py` says how much that is.

Only the formats of `FORMATS` are tried: some of Pillow's other readers start programs (EPS).
"""

from __future__ import annotations

import contextlib
import errno
import warnings
from pathlib import Path
from typing import BinaryIO, Callable, Mapping, TypeVar, Union

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mobiletl.device.bundle.colours import reduced
from mobiletl.device.bundle.decoding_plan import DECODING_LIMIT, Decoding, plan_decoding
from mobiletl.device.bundle.heic import load_heif, reduced_heic
from mobiletl.device.bundle.jpeg_markers import count_scans
from mobiletl.device.bundle.png_strips import described, reduced_png
from mobiletl.device.printable import one_line

__all__ = [
    "DECODING_LIMIT",
    "FORMATS",
    "TO_DECODE",
    "PictureAway",
    "UnreadablePicture",
    "check_header",
    "decode",
    "decoding_bytes",
    "unreadable",
]

# Importing a plugin registers its format; a phone's MPO is opened as JPEG. Image.init() would
# import all of Pillow's, several megabytes of code that a board never needs.
FORMATS = tuple(
    str(reader.format)
    for reader in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)

_LARGE: Mapping[bytes, Callable[[BinaryIO], Image.Image]] = {
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
}
# Says in a reason that a picture takes too much memory.
TO_DECODE = "to decode"
# A progressive JPEG has about ten scans, and each goes through the whole picture.
MOST_SCANS = 100
# What such a file says in its bytes 4 to 12 (ISO/IEC 23008-12): its box, and its brand.
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
HEIC_HINT = (
    'a HEIC picture, which needs another package: pip install "mobiletl[heic]", '
    "or convert it to JPEG"
)

# A stream must be one that can be wound back.
Source = Union[Path, BinaryIO]
Result = TypeVar("Result")

EXIF_ORIENTATION = 0x0112
# What makes a picture of that EXIF orientation upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# What the system says where a disk or a network is away; the picture may be as good as ever.
AWAY = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ENOENT", "ENXIO", "ENODEV", "ESTALE", "ENOMEDIUM", "EREMOTEIO", "ENOLINK"),
        *("ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET"),
        *("ENOTCONN", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ESHUTDOWN", "EPROTO"),
        *("EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ENOMEM"),
    )
    if hasattr(errno, name)
)


class UnreadablePicture(Exception):
    """This is no picture that can be decoded; the caller skips and lists it."""

    def __init__(self, name: str, reason: str) -> None:
        """Name the picture, and say on one line why it cannot be read."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class PictureAway(UnreadablePicture):
    """The system could not read it just now, which says nothing about the picture."""


def check_header(source: Source, name: str = "") -> None:
    """Read the header only: enough to tell a picture from another file, cheap on an SD card.

    Raises UnreadablePicture, which calls it `name`, by default its path. What passes may still turn
    out truncated in `decode`.
    """
    _guarded(source, name, lambda file: _open(file).close())


def decoding_bytes(
    source: Source, short_side: int, limit: int = DECODING_LIMIT, name: str = ""
) -> int:
    """Return how many bytes `decode` will take at most; the header only is read.

    Raises UnreadablePicture as `decode` does, as far as the header tells.
    """

    def look(file: BinaryIO) -> int:
        with _open(file) as image:
            return _within(image, file, short_side, limit).bytes

    return _guarded(source, name, look)


def decode(
    source: Source, short_side: int, name: str = "", limit: int = DECODING_LIMIT
) -> Image.Image:
    """Return the first picture of a file or stream as upright RGB.

    A picture whose short side is at least twice `short_side` pixels is made smaller on the way, but
    never below `short_side`, unless it would else pass `limit` bytes. Raises UnreadablePicture,
    which calls it `name`, by default its path: for what is no picture, and for one that takes more
    than `limit` in any case.
    """
    return _guarded(source, name, lambda file: _read(file, short_side, limit))


def unreadable(name: str, error: OSError) -> UnreadablePicture:
    """Return `error` as what it says of the picture `name`: that it is away, or cannot be read."""
    reason = error.strerror or one_line(error) or "cannot be read"
    return (PictureAway if error.errno in AWAY else UnreadablePicture)(name, reason)


def _guarded(source: Source, name: str, read: Callable[[BinaryIO], Result]) -> Result:
    """Open and `read`, turning every failure into one error."""
    called = name or str(source)
    try:
        # A damaged file can make Pillow warn (EXIF, TIFF tags); the picture counts, not that. Of
        # large pictures it warns, too: what they take in memory is planned here.
        with warnings.catch_warnings(), contextlib.ExitStack() as opened:
            warnings.simplefilter("ignore")
            if isinstance(source, Path):
                return read(opened.enter_context(source.open("rb")))
            return read(source)
    except UnidentifiedImageError as error:
        raise UnreadablePicture(called, "not a picture in a known format") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        reason = f"claims more than {limit} megapixels, which may be a decompression bomb"
        raise UnreadablePicture(called, reason) from error
    except _Refused as error:
        raise UnreadablePicture(called, str(error)) from error
    except OSError as error:
        raise unreadable(called, error) from error
    # Pillow's readers raise whatever malformed bytes provoke: ValueError, SyntaxError,
    # struct.error, IndexError, zlib.error and more. Each means the same here.
    except Exception as error:
        reason = f"damaged ({type(error).__name__}: {one_line(error)})"
        raise UnreadablePicture(called, reason) from error


class _Refused(Exception):
    pass


def _open(file: BinaryIO) -> Image.Image:
    """Open with the readers of `FORMATS`, a HEIC file with pillow-heif's."""
    start = file.read(12)
    file.seek(0)
    if start[4:8] == b"ftyp" and start[8:] in HEIC_BRANDS:
        return _open_heic(file)
    # These two reduce any picture cheaply; Image.open would refuse very large ones unseen.
    for signature, reader in _LARGE.items():
        if start.startswith(signature):
            return reader(file)
    return Image.open(file, formats=FORMATS)


def _open_heic(file: BinaryIO) -> Image.Image:
    try:
        load_heif()
    except ImportError:
        raise _Refused(HEIC_HINT) from None
    return Image.open(file, formats=("HEIF",))


def _within(image: Image.Image, file: BinaryIO, short_side: int, limit: int) -> Decoding:
    """Return the plan of a picture; refuse one that takes more than `limit`."""
    planned = plan_decoding(image, file, short_side, limit)
    if planned.bytes > limit:
        raise _Refused(
            f"takes {planned.bytes / 1e6:.0f} MB {TO_DECODE} where {limit / 1e6:.0f} are planned; "
            "make it smaller"
        )
    return planned


def _read(file: BinaryIO, short_side: int, limit: int) -> Image.Image:
    with _open(file) as image:
        planned = _within(image, file, short_side, limit)
        if planned.strips:
            rgb = reduced_png(image, file, planned.factor)
            turn = UPRIGHT.get(_orientation(described(image, file)))
        elif image.format == "HEIF" and planned.factor > 1:
            return reduced_heic(file, planned.factor)
        else:
            _load(image, file, planned.scale)
            turn = UPRIGHT.get(_orientation(image))
            rgb = reduced(image, planned.factor)
    return rgb if turn is None else rgb.transpose(turn)


def _load(image: Image.Image, file: BinaryIO, scale: int) -> None:
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        if count_scans(file, MOST_SCANS) > MOST_SCANS:
            raise _Refused(f"a JPEG with more than {MOST_SCANS} scans, which takes too long")
        image.draft(None, (image.size[0] // scale, image.size[1] // scale))
    # Before its EXIF is read: a TIFF is turned while it loads, and says so there afterwards.
    image.load()


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if there is none or the EXIF is damaged."""
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - as in `_guarded`; the pixels may still be fine
        return 1
