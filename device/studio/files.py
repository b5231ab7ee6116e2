"""Files that are written whole or not at all, and what the disk must keep free for that."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from mobiletl.device.errors import NoSpace
from mobiletl.device.printable import printable

# What stays free: a training run saves two generations of two states, and a full disk stops more
# than the studio on a board that runs from one card.
RESERVE_BYTES = 200_000_000
# Names of files that are being written; a dot hides them from every data set.
TEMPORARY = ".new-"
PRIVATE, COMMON = 0o600, 0o666


def free_bytes(folder: Path) -> int:
    """Return what may still be written below `folder`, the reserve left out."""
    try:
        return max(0, shutil.disk_usage(str(folder)).free - RESERVE_BYTES)
    except OSError:
        return 0


def check_room(folder: Path, wanted: int = 0) -> None:
    """Raise NoSpace if `wanted` more bytes would take what stays free."""
    if free_bytes(folder) <= wanted:
        raise NoSpace(
            f"the disk of {printable(str(folder))} is full but for the {RESERVE_BYTES / 1e6:.0f} "
            "MB that stay free; delete pictures or versions"
        )


def temporary_beside(folder: Path) -> Path:
    """Return a new name in `folder` for a file that is not whole yet."""
    return folder / f"{TEMPORARY}{secrets.token_hex(8)}"


def write_whole(path: Path, content: bytes, mode: int = COMMON) -> None:
    """Write `content` so that `path` is the former file or this one; raises NoSpace."""
    temporary = temporary_beside(path.parent)
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
            with os.fdopen(os.open(str(temporary), flags, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            remove_quietly(temporary)
            raise
    except OSError as error:
        raise no_space(path, error) from error


def no_space(path: Path, error: OSError) -> NoSpace:
    """Return the line for a file that could not be written."""
    return NoSpace(
        f"{printable(str(path))} cannot be written ({error.strerror or error}); free space there, "
        "or choose another folder with --project"
    )


def remove_quietly(path: Path) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(OSError):
        path.unlink()


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process had not finished writing."""
    for path in folder.glob(f"{TEMPORARY}*"):
        remove_quietly(path)
