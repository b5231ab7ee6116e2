"""Files that are written whole or not at all, and what the disk must keep free for that."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from mobiletl.device.bundle import whole_file
from mobiletl.device.bundle.replacing import COMMON, UNFINISHED
from mobiletl.device.errors import NoSpace
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write

# What stays free: a training run saves two generations of two states, and a full disk stops more
# than the studio on a board that runs from one card.
RESERVE_BYTES = 200_000_000
# Names of files that are being written; a dot hides them from every data set.
TEMPORARY = ".new-"


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
    try:
        whole_file.write_whole(path, content, mode)
    except OSError as error:
        raise no_space(path, error) from error


def no_space(path: Path, error: OSError) -> NoSpace:
    """Return the line for a file that could not be written."""
    return cannot_write("what is new", path, error, "choose another folder with --project")


def remove_quietly(path: Path) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(OSError):
        path.unlink()


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process had not finished writing."""
    for pattern in (f"{TEMPORARY}*", f".*{UNFINISHED}"):
        for path in folder.glob(pattern):
            remove_quietly(path)
