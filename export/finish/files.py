"""Writes finished files: whole, or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mobiletl.core.errors import NoSpace, UsageError

_FOLDER_SAYS_NO = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EROFS,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)


def require_writable(out: Path, suffix: str) -> None:
    """Raises UsageError if `out` exists or does not end as the format does."""
    if not out.name.endswith(suffix):
        raise UsageError(f"--out {out}: expected a name that ends in {suffix}")
    if out.exists():
        raise UsageError(f"--out {out} exists; remove it or choose another name")


def write_files(out: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write `contents` (by suffix) beside each other under the name of `out`.

    Each is complete before it gets its name, and the main file, the first, comes last. Raises
    NoSpace.
    """
    paths = [out.with_suffix(suffix) for suffix in contents]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            ready = [Path(scratch) / path.name for path in paths]
            for place, content in zip(ready, contents.values(), strict=True):
                _write(place, content)
            for place, path in reversed(list(zip(ready, paths, strict=True))):
                place.replace(path)
    except OSError as error:
        if error.errno in _FOLDER_SAYS_NO:
            raise NoSpace(
                f"can't write {out}: {error.strerror}; free some space or choose another place "
                "with --out"
            ) from error
        raise
    return paths


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
