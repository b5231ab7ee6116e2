"""Files that take their name once they are whole: a reader sees the former one or the new one.

The content goes to a temporary file beside it, reaches the disk, and only then gets the name. The
temporary's name is drawn anew for each write and never follows a link: a folder from a stranger may
have links in it. What a crash leaves of them, `leftovers` finds.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import secrets
from pathlib import Path
from typing import BinaryIO, Iterator

from mobiletl.device.bundle.wear import count, sync

# What file systems without hard links (FAT, exFAT, some network folders) say of one.
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV)
# For everybody, as far as the process's umask lets them; and for its owner alone.
COMMON, PRIVATE = 0o666, 0o600
# What the names of temporaries end in.
UNFINISHED = ".tmp"
_TEMPORARY = re.compile(r"\..+\.([0-9]+)-[0-9a-f]{8}\.tmp\Z", re.DOTALL)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None, mode: int = COMMON) -> Iterator[BinaryIO]:
    """Open a stream whose content takes the name `path` at the end, unless an error is raised.

    `mode` is who may do what with it, as for open(2). What had the name becomes `previous`, if that
    is given; `path` is there at every moment, but on file systems without hard links.
    Raises OSError, leaving both as they were.
    """
    temporary = temporary_name(path)
    try:
        with open_new(temporary, mode) as stream:
            yield stream
            stream.flush()
            count(stream.tell())
            sync(stream.fileno())
        if previous is not None:
            _keep_as(path, previous)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """Return a name beside `path` that no file has; its temporaries sort together."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{UNFINISHED}")


def open_new(path: Path, mode: int = COMMON) -> BinaryIO:
    """Open a file for writing that must not be there, not even as a link; raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
    return os.fdopen(os.open(str(path), flags, mode), "wb")


def open_appended(path: Path) -> int:
    """Return a descriptor that reads `path` and writes at its end; no link is followed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _NOFOLLOW
    return os.open(str(path), flags, COMMON)


def leftovers(path: Path) -> list[Path]:
    """Return the temporaries of `path` that a crash has left, the latest first."""
    found = path.parent.glob(f".{glob.escape(path.name)}*{UNFINISHED}")
    return sorted(found, key=_changed, reverse=True)


def remove_leftovers(path: Path) -> None:
    """Remove the temporaries of `path`; for whoever may write it alone."""
    for file in leftovers(path):
        with contextlib.suppress(OSError):
            file.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove the temporaries in `folder` of processes that are gone; those of others may write."""
    for file in folder.glob(f".*{UNFINISHED}"):
        named = _TEMPORARY.match(file.name)
        if named is not None and not _lives(int(named.group(1))):
            with contextlib.suppress(OSError):
                file.unlink()


def sync_file(path: Path) -> None:
    """Have what was written to `path`, if it is there, reach the disk; raises OSError."""
    try:
        descriptor = os.open(str(path), os.O_RDWR | _NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames themselves durable, where the system lets a folder be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _keep_as(path: Path, previous: Path) -> None:
    """Give the file at `path` the name `previous` as well, or instead where that can't be."""
    if not path.exists():
        return
    spare = temporary_name(previous)
    try:
        os.link(str(path), str(spare))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.replace(previous)
        return
    try:
        spare.replace(previous)
    finally:
        # A rename between two names of one file does nothing, and leaves both.
        with contextlib.suppress(OSError):
            spare.unlink()


def _lives(process: int) -> bool:
    """Whether this machine has the process, as far as one may ask."""
    if os.name != "posix":  # Windows would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def _changed(file: Path) -> float:
    try:
        return file.lstat().st_mtime
    except OSError:
        return 0.0
