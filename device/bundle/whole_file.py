"""Writes a small file whole or not at all, whatever happens to the power or the disk."""

from __future__ import annotations

from pathlib import Path

from mobiletl.device.bundle.replacing import COMMON, replacing


def write_whole(path: Path, content: bytes, mode: int = COMMON) -> None:
    """Put `content` on the disk under `path`, over what was there; its folder must exist.

    Raises OSError and leaves nothing behind then.
    """
    with replacing(path, mode=mode) as stream:
        stream.write(content)
