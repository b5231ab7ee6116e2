"""What the network said of each picture, kept on disk so that a restart computes nothing twice.

A file of records of one size, appended: 8 bytes of the picture's id, a CRC-32, and D float32. A
record that a power cut has torn is the last; it is cut off when the file is opened. The name of the
file holds the bundle's id: another bundle says something else.
"""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.studio.files import remove_quietly

HEAD = 12
_ID_BYTES = 8

logger = logging.getLogger(__name__)


class Embeddings:
    """Embeddings f32[D] by picture; belongs to one thread."""

    def __init__(self, folder: Path, bundle_id: str, size: int) -> None:
        """Read what is there; `size` is D."""
        self._size = size
        self._path = folder / f"embeddings-{bundle_id[:16]}.bin"
        self._known: dict[str, Floats] = {}
        for other in folder.glob("embeddings-*.bin"):
            if other != self._path:
                remove_quietly(other)
        self._read()

    def __contains__(self, picture: str) -> bool:
        return picture in self._known

    def __getitem__(self, picture: str) -> Floats:
        return self._known[picture]

    def add(self, picture: str, embedding: Floats) -> None:
        """Keep the embedding f32[D] of a picture; a full disk costs only that it is kept."""
        self._known[picture] = np.array(embedding, np.float32)
        content = self._known[picture].astype("<f4").tobytes()
        name = bytes.fromhex(picture)
        try:
            with self._path.open("ab") as file:
                file.write(name + zlib.crc32(name + content).to_bytes(4, "little") + content)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error)

    def forget(self, wanted: set[str]) -> None:
        """Leave out pictures that are not `wanted` any more.

        The file is written again once half of it is of no use.
        """
        gone = [picture for picture in self._known if picture not in wanted]
        for picture in gone:
            del self._known[picture]
        try:
            records = self._path.stat().st_size // self._record
        except OSError:
            return
        if records > 2 * len(self._known) + 100:
            self._write_anew()

    @property
    def _record(self) -> int:
        return HEAD + 4 * self._size

    def _read(self) -> None:
        try:
            content = self._path.read_bytes()
        except OSError:
            return
        sound = 0
        for start in range(0, len(content) - self._record + 1, self._record):
            name = content[start : start + _ID_BYTES]
            said = content[start + _ID_BYTES : start + HEAD]
            numbers = content[start + HEAD : start + self._record]
            if zlib.crc32(name + numbers).to_bytes(4, "little") != said:
                break
            self._known[name.hex()] = np.frombuffer(numbers, "<f4").astype(np.float32)
            sound = start + self._record
        if sound < len(content):
            logger.warning("%s was torn; %d bytes are left out", self._path, len(content) - sound)
            self._write_anew()

    def _write_anew(self) -> None:
        known = dict(self._known)
        remove_quietly(self._path)
        for picture, embedding in known.items():
            self.add(picture, embedding)
