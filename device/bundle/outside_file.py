"""A file from outside is opened here: a regular file of a size that is known, or not at all.

A name may lead to a pipe, on which a reader waits for ever, to a device, or through a link to a
file that its owner never meant to hand over.
"""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

# Waiting for the other end of a pipe is what O_NONBLOCK avoids; it does nothing to a regular file.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class OddFile(Exception):
    """The file is not one to read; the text continues a sentence that starts with its name."""


def open_outside(path: Path, most_bytes: int, follow: bool = True) -> FileIO:
    """Open a regular file of at most `most_bytes`, unbuffered; raises OddFile, OSError.

    Without `follow` the name itself must not be a link; `inside` looks at the folders above it.
    """
    if not follow and path.is_symlink():
        raise OddFile("is a link")
    descriptor = os.open(str(path), _FLAGS | (0 if follow else _NO_LINK))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OddFile(f"is {_kind(status.st_mode)}, expected a file")
        if status.st_size > most_bytes:
            raise OddFile(f"has {status.st_size} bytes, expected at most {most_bytes}")
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def read_outside(path: Path, most_bytes: int, follow: bool = True) -> bytes:
    """Return what is in such a file, and no more than `most_bytes` of one that grows meanwhile."""
    with open_outside(path, most_bytes, follow) as file:
        size = os.fstat(file.fileno()).st_size
        content = bytearray()
        while len(content) < size:
            piece = file.read(size - len(content))
            if not piece:
                break
            content += piece
        return bytes(content)


def inside_problem(folder: Path, relative: str) -> str:
    """Say how `relative` leaves `folder`, or an empty text: no part of it may be a link."""
    place = folder
    for part in relative.split("/"):
        place = place / part
        if place.is_symlink():
            shown = place.relative_to(folder).as_posix()
            return "is a link" if shown == relative else f"is behind the link {shown}"
    return ""


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return name
    return "a device"
