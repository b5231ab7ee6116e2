"""A data set that grows: pictures written whole into class folders, and where each came from.

    photos/cat/20260801-091500-250-1f3a90c2.jpg     time (UTC) and content hash
    photos/.mobiletl/provenance.jsonl               one JSON object a line for each picture

A folder whose classes are in `train/` gets its pictures there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Iterator, Mapping

from PIL import Image

from mobiletl.device.bundle.arrays import Floats, Pixels
from mobiletl.device.bundle.decode import UnreadablePicture, decode
from mobiletl.device.bundle.replacing import remove_abandoned
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.capturing.looks import SMALL_SIDE, small_of
from mobiletl.device.errors import NoSpace, UsageError
from mobiletl.device.pictures.class_names import problem_of_class_name
from mobiletl.device.pictures.kept_view import FOLDER
from mobiletl.device.pictures.layout import TRAIN_FOLDERS
from mobiletl.device.pictures.scan import files_below
from mobiletl.device.printable import printable

# What all pictures of a data set may take.
LIMIT_BYTES = 1_000_000_000
# What is left free on the disk: feature maps and states of a training go there, too.
RESERVE_BYTES = 200_000_000
QUALITY = 92


class PhotoFolder:
    """The data set at `root`; raises NoSpace rather than fill the disk."""

    def __init__(
        self, root: Path, limit_bytes: int = LIMIT_BYTES, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        """Make the folder if it is missing, and remove what a killed process has left half-written.

        Raises NoSpace and UsageError.
        """
        self.root = root
        self._limit, self._reserve = limit_bytes, reserve_bytes
        if root.exists() and not root.is_dir():
            raise UsageError(f"--data {printable(str(root))} is a file; name a folder")
        self._make(root)
        inside = root / TRAIN_FOLDERS[0]
        split = inside.is_dir() and any(path.is_dir() for path in inside.iterdir())
        self._parent = inside if split else root
        for folder in (root / FOLDER, *(self._parent / name for name in self.class_names())):
            remove_abandoned(folder)
        self._bytes = sum(_size(path) for path in files_below(root))

    def class_names(self) -> list[str]:
        """Return the classes that have a folder."""
        folders = (path for path in self._parent.iterdir() if path.is_dir())
        return sorted(path.name for path in folders if not path.name.startswith("."))

    def check_class(self, name: str, others: list[str]) -> None:
        """Raise UsageError for a name that no class may have beside those here and `others`."""
        problem = problem_of_class_name(name, [*self.class_names(), *others])
        if problem is not None:
            raise UsageError(problem)

    def count(self, name: str) -> int:
        """Return how many files the class has."""
        return len(self._files(name))

    def smalls(self, name: str) -> Iterator[Floats]:
        """Yield the small pictures of what the class has; what is no picture is passed over."""
        for path in self._files(name):
            try:
                yield small_of(decode(path, 2 * SMALL_SIDE))
            except UnreadablePicture:
                continue

    def keep(self, pixels: Pixels, name: str, time_s: float, provenance: Mapping[str, Any]) -> Path:
        """Write a picture into class `name` with a line of `provenance`, JSON values.

        Raises NoSpace; the picture is there whole, or not at all.
        """
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=QUALITY)
        content = encoded.getvalue()
        self._require_space(len(content))
        path = self._parent / name / f"{_stamp(time_s)}-{_hash(content)}.jpg"
        line = {
            "file": path.relative_to(self.root).as_posix(),
            "class": name,
            "time": round(time_s, 3),
            **provenance,
        }
        self._make(path.parent)
        try:
            write_whole(path, content)
            _append(self.root / FOLDER / "provenance.jsonl", line)
        except OSError as error:
            raise self._full(path, error) from error
        self._bytes += len(content)
        return path

    def _files(self, name: str) -> list[Path]:
        folder = self._parent / name
        return files_below(folder) if folder.is_dir() else []

    def _require_space(self, size: int) -> None:
        shown = printable(str(self.root))
        if self._bytes + size > self._limit:
            raise NoSpace(
                f"{shown} has {self._bytes / 1e6:.0f} MB of pictures, and --max-mb allows "
                f"{self._limit / 1e6:g}; what is there is kept: raise --max-mb, or remove pictures"
            )
        free = shutil.disk_usage(self.root).free
        if free - size < self._reserve:
            raise NoSpace(
                f"the disk of {shown} has {free / 1e6:.0f} MB left, and "
                f"{self._reserve / 1e6:.0f} MB stay free for training; what is there is kept: free "
                "space, or choose another folder with --data"
            )

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (self.root / FOLDER).mkdir(exist_ok=True)
        except OSError as error:
            raise self._full(folder, error) from error

    def _full(self, path: Path, error: OSError) -> NoSpace:
        return NoSpace(
            f"{printable(str(path))} cannot be written ({error.strerror or error}); free space "
            "there, or choose another folder with --data"
        )


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line in one write; a torn line that a power cut has left is ended first."""
    content = json.dumps(line, ensure_ascii=True) + "\n"
    with path.open("ab+") as file:
        if file.tell() and not _ends_a_line(path):
            content = "\n" + content
        file.write(content.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _stamp(time_s: float) -> str:
    """Return UTC to the millisecond: names in their order are pictures in theirs."""
    thousandths = round(time_s * 1000)
    whole = time.strftime("%Y%m%d-%H%M%S", time.gmtime(thousandths // 1000))
    return f"{whole}-{thousandths % 1000:03}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
