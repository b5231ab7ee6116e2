"""Feature maps on disk by the identity of their picture: a cache, and a memory of pictures gone.

One file that grows by records, little-endian:

    4s   b"mtl2"
    u16  length of the JSON
    u32  length of the data
    u32  CRC-32 of both lengths and the JSON
    u32  CRC-32 of the JSON and the data, so that no data pass for another record's
    JSON, UTF-8, then data

    {"fit": ..., "shape": [C, h, w], "by": TOKEN}                first: what all maps have in common
    {"picture": ID, "view": V, "class": NAME}, and a map         see quantised.py; with "bits": 4
                                                                 where those are not 8
    {"picture": ID, "path": ..., "bytes": ..., "mtime_ns": ...}  which picture a file holds

A record that a crash has cut off is the last one, and goes when the file is opened. A map that the
disk has changed fails its checksum when it is read, and counts as missing. A record that says what
no record of this release says is left out.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Tuple

import numpy as np

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.records import own_token
from mobiletl.device.bundle.replacing import open_appended
from mobiletl.device.bundle.schema import fields, integer, text
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.bundle.wear import count, sync
from mobiletl.device.errors import NoSpace
from mobiletl.device.features.quantised import NARROW, WIDE, Codec
from mobiletl.device.pictures.dataset import Picture
from mobiletl.device.refusals import cannot_write

MAGIC = b"mtl2"
_HEAD = struct.Struct("<4sHIII")
_LENGTHS = struct.Struct("<HI")
_IDENTITY = text(r"[0-9a-f]{64}", "64 lower-case hex digits")
_COUNT = integer(maximum=2**63 - 1)
_MAP = fields(
    {"picture": _IDENTITY, "view": integer(), "class": text(r"(?s).{1,1000}", "a name")},
    {"bits": integer(minimum=NARROW, maximum=WIDE)},
)
_FILE = fields(
    {"picture": _IDENTITY, "path": text(), "bytes": _COUNT, "mtime_ns": integer(-(2**63), 2**63)}
)
# The record of a file has no more than these beside its path.
FILE_BYTES = 220
# What a file is known by without being read: path in its data folder, bytes, time of change.
_FileKey = Tuple[str, int, int]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredMap:
    """A map in the file, and what it is of; `offset` and `length` are those of its record."""

    picture: str
    view: int
    class_name: str
    offset: int
    length: int
    bits: int = WIDE


def store_path(folder: Path, manifest: Manifest) -> Path:
    """Name the store of a bundle in `folder`; bundles whose states fit each other share it."""
    return folder / f"maps-{manifest.fit[:16]}.store"


class FeatureStore(Closing):
    """Maps that were computed before; a context manager."""

    def __init__(self, path: Path, manifest: Manifest, writes: bool = True) -> None:
        """Open the file at `path`, or begin it; raises NoSpace.

        Unless it `writes`, the file has to be there, and stays as it is whatever is in it. Of those
        who write there may be one at a time (bundle/lock.py).
        """
        self.path = path
        self._writes = writes
        self.codec = Codec(manifest.feature.shape)
        self.narrow = Codec(manifest.feature.shape, NARROW)
        self._maps: dict[str, dict[int, tuple[int, int]]] = {}
        # What a run knows of every map counts in its memory, so only the rare maps are here.
        self._narrow: set[tuple[str, int]] = set()
        self._classes: dict[str, str] = {}
        self._files: dict[_FileKey, str] = {}
        self.foreign = False
        """Whether it was begun by another user, or on another machine (bundle/records.py)."""
        try:
            if writes and not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a record is written and read whole.
            self._file: BinaryIO = (
                os.fdopen(open_appended(path), "a+b", buffering=0)
                if writes
                else path.open("rb", buffering=0)
            )
        except OSError as error:
            raise self._no_space(error) from error
        try:
            self._shape = manifest.feature.shape
            shape = list(manifest.feature.shape)
            self._open({"fit": manifest.fit, "shape": shape, "by": own_token()})
        except BaseException:
            self._file.close()
            raise

    @property
    def map_bytes(self) -> int:
        """Bytes of a map with its record, nearly."""
        return self.codec.size + _HEAD.size + 128

    def has(self, picture: str, view: int) -> bool:
        """Whether there is such a map; it may still turn out damaged."""
        return view in self._maps.get(picture, {})

    def read(self, picture: str, view: int, out: Floats) -> bool:
        """Write a map to `out` f32[C,h,w]; False where it is missing or damaged."""
        place = self._maps.get(picture, {}).get(view)
        content = None if place is None else self._data(*place)
        codec = self.narrow if self._bits(picture, view) == NARROW else self.codec
        if content is None or len(content) != codec.size:
            self._maps.get(picture, {}).pop(view, None)
            return False
        codec.decode(content, out)
        return True

    def add(
        self, picture: str, view: int, class_name: str, content: bytes, bits: int = WIDE
    ) -> None:
        """Append a map, encoded in so many bits; raises NoSpace."""
        about: dict[str, Any] = {"picture": picture, "view": view, "class": class_name}
        if bits != WIDE:
            about["bits"] = bits
        self._know(picture, view, class_name, self._append(about, content), bits)

    def picture_of(self, file: Picture) -> str | None:
        """Return the picture in a file that was read before, unless it has changed since."""
        return self._files.get((file.path, file.bytes, file.mtime_ns))

    def remember(self, file: Picture, picture: str) -> None:
        """Note which picture a file holds; raises NoSpace."""
        self._files[(file.path, file.bytes, file.mtime_ns)] = picture
        about = {"path": file.path, "bytes": file.bytes, "mtime_ns": file.mtime_ns}
        self._append({"picture": picture, **about}, b"")

    def maps(self) -> Iterator[StoredMap]:
        """Every map, by picture in the order in which they came, then by view."""
        for picture, views in self._maps.items():
            for view in sorted(views):
                bits = self._bits(picture, view)
                yield StoredMap(picture, view, self._classes[picture], *views[view], bits)

    def sound(self, stored: StoredMap) -> bool:
        """Whether a map is still what was written."""
        return self._data(stored.offset, stored.length) is not None

    def narrowed(self, stored: StoredMap) -> StoredMap:
        """Return a map of this store as it would be in NARROW bits."""
        if stored.bits == NARROW:
            return stored
        saved = self.codec.size - self.narrow.size - len(f', "bits": {NARROW}')
        return replace(stored, length=stored.length - saved, bits=NARROW)

    def copy(self, stored: StoredMap, target: FeatureStore, class_name: str) -> None:
        """Append a map of this store to another one, in the bits that `stored` says, unless it is
        damaged; raises NoSpace.
        """
        place = self._maps.get(stored.picture, {}).get(stored.view)
        content = None if place is None else self._data(*place)
        if content is None:
            return
        if stored.bits != self._bits(stored.picture, stored.view):
            h = np.empty(self._shape, np.float32)
            self.codec.decode(content, h)
            content = self.narrow.encode(h)
        target.add(stored.picture, stored.view, class_name, content, stored.bits)

    def copy_files(self, target: FeatureStore, most: float = math.inf) -> None:
        """Let another store know which pictures the files hold of which it has a map, as long as it
        has `most` bytes at most.
        """
        for (path, size, mtime_ns), picture in self._files.items():
            known = target._files.get((path, size, mtime_ns))
            if picture in target._maps and known != picture:
                needed = len(path.encode("utf-8", "surrogatepass")) + FILE_BYTES
                if target.file_size() + needed > most:
                    return
                target.remember(Picture(path, 0, size, mtime_ns), picture)

    def file_size(self) -> int:
        """Return how many bytes the file has."""
        return os.fstat(self._file.fileno()).st_size

    def flush(self) -> None:
        """Have everything reach the disk; raises OSError."""
        sync(self._file.fileno())

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()

    def _open(self, about: dict[str, Any]) -> None:
        """Find the records; begin afresh where the file is of other maps."""
        try:
            sound = 0
            for offset, length, found in self._records():
                if offset == 0:
                    if {**found, "by": ""} != {**about, "by": ""}:
                        break
                    self.foreign = not about["by"] or found.get("by") != about["by"]
                sound = offset + length
                self._find(found, offset, length)
            size = os.fstat(self._file.fileno()).st_size
            if sound < size and self._writes:
                logger.warning("%s: %d bytes at its end are cut off", self.path, size - sound)
                self._file.truncate(sound)
        except OSError as error:
            raise self._no_space(error) from error
        if sound == 0:
            self._maps.clear()
            if self._writes:
                self._append(about, b"")

    def _records(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Offset, length and JSON of each record, up to the first that is not sound."""
        size = os.fstat(self._file.fileno()).st_size
        offset = 0
        while offset + _HEAD.size <= size:
            self._file.seek(offset)
            magic, about_bytes, data_bytes, checksum, _ = _HEAD.unpack(self._file.read(_HEAD.size))
            content = self._file.read(about_bytes)
            lengths = _LENGTHS.pack(about_bytes, data_bytes)
            length = _HEAD.size + about_bytes + data_bytes
            if (
                magic != MAGIC
                or offset + length > size
                or zlib.crc32(lengths + content) != checksum
            ):
                return
            about = _object(content)
            if about is None:
                return
            yield offset, length, about
            offset += length

    def _find(self, about: dict[str, Any], offset: int, length: int) -> None:
        problems: list[str] = []
        (_MAP if "view" in about else _FILE)(about, "", problems)
        if problems:
            return
        if "view" in about:
            place, bits = (offset, length), about.get("bits", WIDE)
            self._know(about["picture"], about["view"], about["class"], place, bits)
        else:
            key = (about["path"], about["bytes"], about["mtime_ns"])
            self._files[key] = about["picture"]

    def _know(
        self, picture: str, view: int, class_name: str, place: tuple[int, int], bits: int
    ) -> None:
        self._maps.setdefault(picture, {})[view] = place
        self._classes[picture] = class_name
        if bits == NARROW:
            self._narrow.add((picture, view))
        else:
            self._narrow.discard((picture, view))

    def _bits(self, picture: str, view: int) -> int:
        return NARROW if (picture, view) in self._narrow else WIDE

    def _append(self, about: dict[str, Any], data: bytes) -> tuple[int, int]:
        content = json.dumps(about).encode("utf-8")
        lengths = _LENGTHS.pack(len(content), len(data))
        head = _HEAD.pack(
            MAGIC,
            len(content),
            len(data),
            zlib.crc32(lengths + content),
            zlib.crc32(data, zlib.crc32(content)),
        )
        record = head + content + data
        try:
            written = self._file.write(record)
        except OSError as error:
            raise self._no_space(error) from error
        count(written or 0)
        if written != len(record):
            raise self._no_space(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return self._file.tell() - len(record), len(record)

    def _data(self, offset: int, length: int) -> bytes | None:
        """Return the data of a record; None where it is not what was written."""
        self._file.seek(offset)
        record = self._file.read(length)
        if len(record) < max(length, _HEAD.size):
            return None
        _, about_bytes, data_bytes, _, checksum = _HEAD.unpack(record[: _HEAD.size])
        about = record[_HEAD.size : _HEAD.size + about_bytes]
        data = record[_HEAD.size + about_bytes :]
        sound = len(data) == data_bytes and zlib.crc32(data, zlib.crc32(about)) == checksum
        return data if sound else None

    def _no_space(self, error: OSError) -> NoSpace:
        instead = "name another folder with --cache DIR, or train with --no-cache"
        return cannot_write("the feature maps", self.path, error, instead)


def _object(content: bytes) -> dict[str, Any] | None:
    """Return the JSON of a record; None where it is no object."""
    try:
        found = parse_json(content, raw_bytes=True)
    except BadJson:
        return None
    return found if isinstance(found, dict) else None
