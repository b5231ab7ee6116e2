"""Pictures from outside on their way into the album: looked at before they count.

A file that arrives is written beside the classes under a hidden name, hashed, its header checked
and its pixels decoded once. What is no JPEG and no PNG (HEIC from a phone, WebP, TIFF) is written
again as a JPEG, so that a board that trains needs no other decoder. So is what takes much memory to
decode (a progressive JPEG, an interlaced PNG): it is decoded once in a process of its own, and
neither the server nor a training has to do that again.
"""

from __future__ import annotations

import hashlib
import io
import sys
import threading
from pathlib import Path

from PIL import Image

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.decode import UnreadablePicture, decode, decoding_bytes
from mobiletl.device.bundle.digest import file_digest
from mobiletl.device.printable import printable
from mobiletl.device.sessions.freed import return_freed
from mobiletl.device.studio.album import ID_DIGITS, Album
from mobiletl.device.studio.decoding import decoded_apart
from mobiletl.device.studio.files import (
    check_room,
    no_space,
    remove_quietly,
    temporary_beside,
)
from mobiletl.device.studio.refused import Refused

MOST_BYTES = 32_000_000
# What one picture may take in the server itself: a JPEG or PNG of 100 megapixels takes 12.
HERE_BYTES = 16_000_000
FRAME_QUALITY = 92
THUMBNAIL_QUALITY = 80
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


class Inbox:
    """Takes pictures in. One is decoded at a time, here and apart: nothing else is as large."""

    def __init__(self, album: Album, short_side: int) -> None:
        """`short_side` in pixels is what training decodes to at least."""
        self.album = album
        self._short_side = short_side
        self._decoding, self._apart = threading.Lock(), threading.Lock()

    def temporary(self) -> Path:
        """Return where the bytes of an upload may go; raises NoSpace, Refused."""
        self.album.check_room()
        check_room(self.album.folder, MOST_BYTES)
        return temporary_beside(self.album.folder)

    def take(self, arrived: Path, class_name: str) -> tuple[str, bool]:
        """Take in the file `arrived`, which is gone afterwards; return its id, and whether it is
        new. Raises Refused (415) for what is no picture, and NoSpace.
        """
        try:
            suffix = self._checked(arrived)
            picture = file_digest(arrived)[:ID_DIGITS]
            kept = self.album.take(arrived, picture, suffix, class_name)
            return picture, kept is not None
        except UnreadablePicture as error:
            raise Refused(415, f"this is no picture that can be used: {error.reason}") from error
        except OSError as error:
            raise no_space(arrived, error) from error
        finally:
            remove_quietly(arrived)

    def take_frame(self, pixels: Pixels, class_name: str) -> bool:
        """Take in a camera's RGB pixels uint8[H,W,3]; return whether they are new."""
        content = jpeg(pixels, FRAME_QUALITY)
        self.album.check_room()
        check_room(self.album.folder, len(content))
        arrived = temporary_beside(self.album.folder)
        try:
            arrived.write_bytes(content)
            picture = hashlib.sha256(content).hexdigest()[:ID_DIGITS]
            return self.album.take(arrived, picture, ".jpg", class_name) is not None
        except OSError as error:
            raise no_space(arrived, error) from error
        finally:
            remove_quietly(arrived)

    def thumbnail(self, path: Path, side: int) -> bytes:
        """Return the picture at `path` as a JPEG of at most `side` pixels; raises Refused."""
        try:
            with self._decoding:
                image = decode(path, side, printable(path.name))
        except UnreadablePicture as error:
            raise Refused(404, f"this picture cannot be read any more: {error.reason}") from error
        image.thumbnail((side, side), Image.Resampling.BILINEAR)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=THUMBNAIL_QUALITY)
        return out.getvalue()

    def _checked(self, arrived: Path) -> str:
        """Look at a file closely; return its suffix, or write it again and return that one's."""
        with arrived.open("rb") as file:
            start = file.read(len(PNG))
        if start.startswith(JPEG) or start == PNG:
            taken = decoding_bytes(arrived, self._short_side, sys.maxsize, "picture")
            if taken <= HERE_BYTES:
                with self._decoding:
                    decode(arrived, self._short_side, "picture", HERE_BYTES)
                    return_freed()
                return ".png" if start == PNG else ".jpg"
        # Thumbnails need not wait for these, which take seconds on a small board.
        with self._apart:
            arrived.write_bytes(decoded_apart(arrived, self._short_side))
        return ".jpg"


def jpeg(pixels: Pixels, quality: int, longest: int | None = None) -> bytes:
    """Return RGB pixels uint8[H,W,3] as a JPEG, its longer side at most `longest` pixels."""
    image = Image.fromarray(pixels)
    if longest is not None and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
