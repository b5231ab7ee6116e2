"""Look through folders for pictures; whatever is left out gets a reason.

Only headers are read. Everything is sorted, so the same folder always gives the same pictures.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from mobiletl.device.bundle.decode import (
    PictureAway,
    UnreadablePicture,
    decoding_bytes,
    unreadable,
)
from mobiletl.device.bundle.left_out import left_out
from mobiletl.device.pictures.needs import Needs
from mobiletl.device.pictures.outage import patiently

GONE = "gone since the folder was read"
# What this program keeps beside the pictures.
OWN_FOLDER = ".mobiletl"


@dataclass(frozen=True)
class Picture:
    """One file: `path` is relative to the data folder, POSIX style; `label` counts from 0."""

    path: str
    label: int
    bytes: int
    mtime_ns: int
    ctime_ns: int = field(default=0, compare=False)
    inode: int = field(default=0, compare=False)
    """Both change with a file that is put in place of another one of its size and time."""


@dataclass(frozen=True)
class Skipped:
    """A file or a folder that is not used, and why."""

    path: str
    reason: str


class Scan:
    """Collects pictures below `root`, and on the way what is skipped."""

    def __init__(self, root: Path, needs: Needs) -> None:
        """Read nothing yet."""
        self.root = root
        self.needs = needs
        self.skipped: list[Skipped] = []
        self.decoding_bytes = 0
        """The most that one of the pictures takes while it is decoded."""
        self.heaviest = ""
        """The picture that takes it."""
        self._seen: set[str] = set()

    def folders(self, folder: Path) -> list[str]:
        """Return the names of the folders in `folder`, without those of the system.

        Raises UnreadablePicture for a folder that cannot be read.
        """
        found = []
        for name in _names(folder):
            path = folder / name
            if self._kind(path) == stat.S_IFDIR and self._wanted(path, folder=True):
                found.append(name)
        return found

    def loose_files(self, folder: Path) -> None:
        """Skip the files in `folder`, which has folders of pictures."""
        for name in _names(folder):
            path = folder / name
            if self._kind(path) != stat.S_IFDIR and self._wanted(path):
                self.skip(path, "not in a class folder")

    def pictures(self, folder: Path, label: int) -> list[Picture]:
        """Return all pictures in `folder` and its folders."""
        found = []
        for path in self._files(folder):
            picture = self._picture(path, label)
            if picture is not None:
                found.append(picture)
        return found

    def skip(self, path: Path, reason: str) -> None:
        """Note why a file or a folder is left out, once."""
        relative = path.relative_to(self.root).as_posix()
        if relative not in self._seen:
            self._seen.add(relative)
            self.skipped.append(Skipped(relative, reason))

    def _files(self, folder: Path) -> list[Path]:
        """Return the regular files in `folder` and its folders; a pipe would block the reader."""
        found: list[Path] = []
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            try:
                names = _names(here)
            except UnreadablePicture as error:
                self.skip(here, f"folder cannot be read ({error.reason})")
                continue
            for name in names:
                path = here / name
                kind = self._kind(path)
                if not kind or not self._wanted(path, folder=kind == stat.S_IFDIR):
                    continue
                if kind == stat.S_IFREG:
                    found.append(path)
                elif kind != stat.S_IFDIR:
                    self.skip(path, "not a regular file")
                elif path.is_symlink():
                    self.skip(path, "link to a folder, which is not followed")
                else:
                    waiting.append(path)
        return sorted(found)

    def _picture(self, path: Path, label: int) -> Picture | None:
        relative = path.relative_to(self.root).as_posix()
        needs = self.needs

        def look() -> tuple[int, os.stat_result]:
            try:
                return decoding_bytes(path, needs.short_side, needs.limit), path.stat()
            except OSError as error:
                raise unreadable(str(path), error) from error
            except PictureAway:
                if path.name not in _names(path.parent):
                    raise UnreadablePicture(str(path), GONE) from None
                raise

        try:
            size, status = patiently(look)
        except UnreadablePicture as error:
            self.skip(path, error.reason)
            return None
        if size > self.decoding_bytes:
            self.decoding_bytes, self.heaviest = size, relative
        return Picture(
            relative, label, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        )

    def _kind(self, path: Path) -> int:
        """Return the kind of what a path leads to, as in `stat.S_IFMT`; 0 after noting why not."""

        def look() -> int:
            try:
                return stat.S_IFMT(path.stat().st_mode)
            except OSError as error:
                if path.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                    raise UnreadablePicture(str(path), "link leads nowhere") from error
                if error.errno == errno.ENOENT and path.name not in _names(path.parent):
                    raise UnreadablePicture(str(path), GONE) from error
                raise unreadable(str(path), error) from error

        try:
            return patiently(look)
        except UnreadablePicture as error:
            self.skip(path, error.reason)
            return 0

    def _wanted(self, path: Path, folder: bool = False) -> bool:
        """Whether a person put it there; notes it where nobody did."""
        reason = left_out(path.name, folder)
        if reason and path.name != OWN_FOLDER:
            self.skip(path, reason)
        return not reason


def files_below(folder: Path) -> list[Path]:
    """Return the regular files in `folder` and its folders that somebody may mean."""
    return Scan(folder, Needs())._files(folder)


def _names(folder: Path) -> list[str]:
    """Return what is in `folder`, sorted; raises UnreadablePicture, and PicturesAway in the end."""

    def look() -> list[str]:
        try:
            return sorted(path.name for path in folder.iterdir())
        except OSError as error:
            raise unreadable(str(folder), error) from error

    return patiently(look)
