"""Small copies of pictures, made one at a time: as a data URI for a page, as grey for comparing."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.decode import UnreadablePicture, decode
from mobiletl.device.reviewing.duplicates import SIDE, grey_copy

# Pixels of a thumbnail's long side; twice what a page shows, for the screens of phones.
LONG_SIDE = 256
QUALITY = 70
# Longer pictures are cut: 1 x 256 pixels show nothing.
LONGEST = 3


def data_uri(path: Path) -> str | None:
    """Return the picture in a file as a small JPEG; None where it cannot be decoded."""
    try:
        image = decode(path, LONG_SIDE // 2, str(path))
    except (UnreadablePicture, OSError):
        return None
    # Thumbnails of the whole: what is at the rim may be what was named.
    image = _cut(image)
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BILINEAR)
    content = io.BytesIO()
    # A new image has none of the metadata of the old one, such as where it was taken.
    image.save(content, "JPEG", quality=QUALITY, optimize=True, exif=b"")
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def grey_of(path: Path) -> Pixels | None:
    """Return the picture in a file as a small grey copy; None where it cannot be decoded."""
    try:
        return grey_copy(decode(path, 2 * SIDE, str(path)))
    except (UnreadablePicture, OSError):
        return None


def _cut(image: Image.Image) -> Image.Image:
    """Return the middle of a very long picture."""
    short = min(image.size)
    width, height = (min(side, LONGEST * max(short, 1)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
