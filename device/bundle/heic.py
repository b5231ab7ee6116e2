"""Read a large HEIC picture from its decoder's own memory, so that it is there once and not twice.

Pillow copies the decoded pixels, 3 bytes each, to 4 bytes each, and then reduces them. Here strips
of them are copied and reduced. What pillow-heif returns is upright already: it turns pictures as
their container says (ISO/IEC 23008-12, 6.5.10), which is what counts, and not their EXIF.
"""

from __future__ import annotations

from typing import Any, BinaryIO, Iterator

from PIL import Image

from mobiletl.device.bundle.colours import assembled, conversion, strip_rows


def load_heif() -> Any:
    """Import pillow-heif and let Pillow know its format; raises ImportError."""
    import pillow_heif

    # Its decoder's own threads would each hold a part of the picture.
    pillow_heif.register_heif_opener(decode_threads=1)
    return pillow_heif


def reduced_heic(file: BinaryIO, factor: int) -> Image.Image:
    """Return what `colours.reduced` would of the first picture in `file`, upright."""
    file.seek(0)
    found = load_heif().open_heif(file, convert_hdr_to_8bit=True)
    picture = found[found.primary_index]
    picture.load()
    # The size that the header states may be another one.
    return assembled(
        _strips(picture, factor), picture.size, factor, conversion(Image.new(picture.mode, (1, 1)))
    )


def _strips(picture: Any, factor: int) -> Iterator[Image.Image]:
    width, height = picture.size
    mode, stride, rows = picture.mode, picture.stride, strip_rows(width, factor)
    # Any object with a buffer is taken, whatever Pillow's types say.
    pixels: Any = memoryview(picture.data)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        strip = pixels[top * stride : (top + count) * stride]
        yield Image.frombuffer(mode, (width, count), strip, "raw", mode, stride, 1)
