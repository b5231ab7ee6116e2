"""One picture on its way into a network, wherever it comes from, and what it is known by."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.decode import (
    DECODING_LIMIT,
    UnreadablePicture,
    check_header,
    decode,
)
from mobiletl.device.bundle.digest import file_digest

# A file, an encoded picture as an upload brings it, or the pixels of a camera.
Content = Union[Path, bytes, Pixels]


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture that is decoded when it is needed.

    `name` is what messages call it: a path, or a camera and a number. `content` is a file, the
    bytes of one, or RGB pixels uint8[H,W,3]. `time_s` is when a camera took it, in seconds since
    1970; None where nobody knows. A picture that takes more than `decode_limit` bytes while it is
    decoded is refused.
    """

    name: str
    content: Content
    time_s: float | None = None
    decode_limit: int = DECODING_LIMIT

    def pixels(self) -> Pixels | None:
        """Return the content where it is pixels, contiguous; raises UnreadablePicture."""
        if isinstance(self.content, np.ndarray):
            return _checked(self.name, self.content)
        return None

    def decode(self, short_side: int) -> Image.Image:
        """Return it as upright RGB.

        A large file may come reduced, but not below `short_side` pixels on its short side unless
        it would else take too much memory (decode.py). Raises UnreadablePicture.
        """
        if isinstance(self.content, np.ndarray):
            return Image.fromarray(_checked(self.name, self.content))
        if isinstance(self.content, bytes):
            return decode(io.BytesIO(self.content), short_side, self.name, self.decode_limit)
        return decode(self.content, short_side, self.name, self.decode_limit)

    def check(self) -> None:
        """Look at the header only, which is cheap; raises UnreadablePicture."""
        if isinstance(self.content, np.ndarray):
            _checked(self.name, self.content)
        elif isinstance(self.content, bytes):
            check_header(io.BytesIO(self.content), self.name)
        else:
            check_header(self.content, self.name)

    def identity(self) -> str:
        """Return the SHA-256 of the content: equal pictures are equal under any name.

        Of pixels, shape and bytes are hashed. Raises OSError for a file that cannot be read.
        """
        if isinstance(self.content, np.ndarray):
            pixels = np.ascontiguousarray(self.content)
            shape = "x".join(str(side) for side in pixels.shape)
            return hashlib.sha256(f"{shape} ".encode("ascii") + pixels.tobytes()).hexdigest()
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        return file_digest(self.content)


def frame_of(picture: Frame | str | Path | bytes | Pixels, name: str = "frame") -> Frame:
    """Return `picture` as a frame; `name` is for bytes and pixels, which have none of their own."""
    if isinstance(picture, Frame):
        return picture
    if isinstance(picture, (str, Path)):
        return Frame(str(picture), Path(picture))
    return Frame(name, picture)


def _checked(name: str, pixels: Pixels) -> Pixels:
    """Return contiguous RGB pixels; cameras and other libraries hand out all kinds of arrays."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UnreadablePicture(
            name, f"is {pixels.dtype}{list(pixels.shape)}, expected RGB pixels uint8[H,W,3]"
        )
    return np.ascontiguousarray(pixels)
