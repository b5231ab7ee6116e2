"""Which pictures a run has read, by their content: a resumed run notices that one is another.

    {"path": "3.jpg", "bytes": 81, "mtime_ns": ..., "ctime_ns": ..., "inode": ..., "picture": SHA}
    {"path": "cat/4.jpg", "reason": "truncated"}

A line is added when a picture is first read, and one when it turns out to be damaged. As git does,
a file whose size, times and number are what they were is taken for unchanged; any other one is read
and hashed again, and only another content is a change.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Any, Tuple

from mobiletl.device.bundle.decode import UnreadablePicture, unreadable
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.replacing import open_appended
from mobiletl.device.bundle.wear import write_all
from mobiletl.device.pictures.dataset import Dataset, Picture
from mobiletl.device.pictures.outage import patiently
from mobiletl.device.refusals import cannot_read, cannot_write
from mobiletl.device.run.lines import read_lines, sealed

# Bytes, time of the last write, time of the last change of any kind, number on its disk.
_Key = Tuple[int, int, int, int]


class PictureRecord:
    """The record of one run; whoever writes has the run to itself (claim.py)."""

    def __init__(self, path: Path) -> None:
        """Read what is there; raises BadState where it cannot be read."""
        self._path = path
        self._found: dict[str, tuple[_Key, str]] = {}
        self._touched: list[tuple[Picture, str]] = []
        self.identities: dict[str, str] = {}
        """What a path holds, of those that `changed` has found to be what they were."""
        self.reasons: dict[str, str] = {}
        """Why pictures were left out, by path."""
        try:
            for line in read_lines(path):
                self._take(line)
        except OSError as error:
            raise cannot_read("the record of pictures", path, error) from error

    def changed(self, dataset: Dataset) -> list[str]:
        """Return the paths of pictures that are others than those the run has read.

        Raises PicturesAway. A picture that cannot be read says nothing; it is found out later.
        """
        found = []
        for picture in (*dataset.train, *dataset.val):
            known = self._found.get(picture.path)
            if known is None:
                continue
            key, identity = known
            if key != _key(picture):
                with contextlib.suppress(UnreadablePicture):
                    now = patiently(partial(_identity, dataset.root / picture.path))
                    if now != identity:
                        found.append(picture.path)
                        continue
                self._touched.append((picture, identity))
            self.identities[picture.path] = identity
        return found

    def begin(self, fresh: bool) -> None:
        """Go on with the record, or remove that of a run that begins; raises NoSpace."""
        try:
            if fresh and self._path.exists():
                self._path.unlink()
        except OSError as error:
            raise self._cannot_write(error) from error
        if fresh:
            self.identities, self.reasons, self._touched = {}, {}, []
        for picture, identity in self._touched:
            self.note(picture, identity)

    def note(self, picture: Picture, identity: str) -> None:
        """Note what a picture is; raises NoSpace."""
        size, written, changed, inode = _key(picture)
        stamps = {"bytes": size, "mtime_ns": written, "ctime_ns": changed, "inode": inode}
        self._append({"path": picture.path, **stamps, "picture": identity})

    def skip(self, path: str, reason: str) -> None:
        """Note that a picture is left out; raises NoSpace."""
        self._append({"path": path, "reason": reason})

    def _take(self, line: dict[str, Any]) -> None:
        path, reason, identity = line.get("path"), line.get("reason"), line.get("picture")
        numbers = [line.get(name) for name in ("bytes", "mtime_ns", "ctime_ns", "inode")]
        if not isinstance(path, str):
            return
        if isinstance(reason, str):
            self.reasons[path] = reason
        if isinstance(identity, str) and all(type(number) is int for number in numbers):
            size, written, changed, inode = (int(str(number)) for number in numbers)
            self._found[path] = ((size, written, changed, inode), identity)

    def _append(self, document: dict[str, Any]) -> None:
        try:
            descriptor = open_appended(self._path)
            try:
                write_all(descriptor, sealed(document))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> Exception:
        return cannot_write("the record of pictures", self._path, error)


def _key(picture: Picture) -> _Key:
    return picture.bytes, picture.mtime_ns, picture.ctime_ns, picture.inode


def _identity(path: Path) -> str:
    try:
        return Frame(str(path), path).identity()
    except OSError as error:
        raise unreadable(str(path), error) from error
