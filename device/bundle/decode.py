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

Only the formats of `FORMATS` are tried: some of Pillow's other readers start programs (EPS).
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import BinaryIO, Union

import numpy as np
import numpy.typing as npt
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

# Four bytes per pixel while a picture is decoded, so 160 MB. JPEGs are decoded smaller
# (`draft`) and count with what is decoded; what a header may claim at all is Pillow's limit.
DECODED_PIXEL_LIMIT = 40_000_000
WHITE = (255, 255, 255)

# What such a file says in its bytes 4 to 12 (ISO/IEC 23008-12): its box, and its brand.
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
HEIC_HINT = (
    'a HEIC picture, which needs another package: pip install "mobiletl[heic]", '
    "or convert it to JPEG"
)

# A stream must be one that can be wound back.
Source = Union[Path, BinaryIO]

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


class UnreadablePicture(Exception):
    """This is no picture that can be decoded; the caller skips and lists it."""

    def __init__(self, name: str, reason: str) -> None:
        """Name the picture, and say on one line why it cannot be read."""
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def check_header(source: Source, name: str = "") -> None:
    """Read the header only: enough to tell a picture from another file, cheap on an SD card.

    Raises UnreadablePicture, which calls it `name`, by default its path. What passes may still turn
    out truncated in `decode`.
    """
    _guarded(source, name or str(source), None)


def decode(source: Source, short_side: int, name: str = "") -> Image.Image:
    """Return the first picture of a file or stream as upright RGB.

    A JPEG whose short side is much larger than `short_side` pixels is decoded at a half, a
    quarter or an eighth, but never below `short_side`: 12 megapixels then take 3 MB instead of
    48. Other formats come at full size. Raises UnreadablePicture, which calls it `name`,
    by default its path.
    """
    image = _guarded(source, name or str(source), short_side)
    assert image is not None
    return image


def _guarded(source: Source, name: str, short_side: int | None) -> Image.Image | None:
    """Open, and unless `short_side` is None decode, turning every failure into one error."""
    try:
        # A damaged file can make Pillow warn (EXIF, TIFF tags); the picture counts, not that.
        with warnings.catch_warnings(), contextlib.ExitStack() as opened:
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(source, Path):
                return _read(opened.enter_context(source.open("rb")), short_side)
            return _read(source, short_side)
    except UnidentifiedImageError as error:
        raise UnreadablePicture(name, "not a picture in a known format") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        reason = f"claims more than {limit} megapixels, which may be a decompression bomb"
        raise UnreadablePicture(name, reason) from error
    except _Refused as error:
        raise UnreadablePicture(name, str(error)) from error
    except OSError as error:
        raise UnreadablePicture(name, error.strerror or str(error) or "cannot be read") from error
    # Pillow's readers raise whatever malformed bytes provoke: ValueError, SyntaxError,
    # struct.error, IndexError, zlib.error and more. Each means the same here.
    except Exception as error:
        raise UnreadablePicture(name, f"damaged ({type(error).__name__}: {error})") from error


class _Refused(Exception):
    pass


def _open(file: BinaryIO) -> Image.Image:
    """Open with the readers of `FORMATS`, a HEIC file with pillow-heif's."""
    start = file.read(12)
    file.seek(0)
    if start[4:8] != b"ftyp" or start[8:] not in HEIC_BRANDS:
        return Image.open(file, formats=FORMATS)
    try:
        import pillow_heif
    except ImportError:
        raise _Refused(HEIC_HINT) from None
    # Its decoder's own threads would each hold a part of the picture.
    pillow_heif.register_heif_opener(decode_threads=1)
    return Image.open(file, formats=("HEIF",))


def _read(file: BinaryIO, short_side: int | None) -> Image.Image | None:
    with _open(file) as image:
        if short_side is None:
            return None
        image.draft(None, (short_side, short_side))
        pixels = image.size[0] * image.size[1]
        if pixels > DECODED_PIXEL_LIMIT:
            limit = DECODED_PIXEL_LIMIT // 1_000_000
            found = -(-pixels // 1_000_000)
            raise _Refused(
                f"{found} megapixels; more than {limit} take too much memory, make it smaller"
            )
        # In this order: a TIFF is turned while it loads, and says so in its EXIF afterwards.
        image.load()
        turn = UPRIGHT.get(_orientation(image))
        rgb = _to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if there is none or the EXIF is damaged."""
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - as in `_guarded`; the pixels may still be fine
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        rgb = Image.fromarray(_eight_bits(np.asarray(image).astype(np.uint16))).convert("RGB")
    elif image.mode == "I" and image.format == "PNG":
        # Before Pillow 11 a 16-bit PNG comes as 32-bit integers.
        rgb = Image.fromarray(_eight_bits(np.asarray(image).astype(np.uint16))).convert("RGB")
    elif image.mode in ("I", "F"):
        rgb = Image.fromarray(_stretched(np.asarray(image))).convert("RGB")
    elif "transparency" in image.info or {"A", "a"} & set(image.getbands()):
        colours = image.convert("RGBA")
        rgb = Image.new("RGB", colours.size, WHITE)
        rgb.paste(colours, mask=colours.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    return rgb


def _eight_bits(grey: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Return grey / 257, rounded; there are no ties, 257 is odd."""
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _stretched(grey: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Minimum to 0, maximum to 255; these formats state no range of their own."""
    values = np.nan_to_num(grey.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    stretched: npt.NDArray[np.uint8] = np.rint((values - low) * (255 / (high - low))).astype(
        np.uint8
    )
    return stretched
