"""Pictures to calibrate on: found, and prepared by the board's own code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.left_out import left_out
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.errors import BadPictures

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".heic", ".heif"}
)
# Half to calibrate on, where ranges settle long before, half to count changed labels on.
MOST = 384


@dataclass(frozen=True)
class Prepared:
    """Readable pictures as [1,3,R,R] each, where they lie, and a line for each file that could not
    be read.
    """

    images: tuple[npt.NDArray[np.float32], ...]
    files: tuple[Path, ...]
    skipped: tuple[str, ...]


def picture_files(folder: Path, flag: str = "--data") -> list[Path]:
    """At most `MOST` pictures below `folder`, spread evenly over its files in order of their names.

    Raises BadPictures if there is none; `flag` is what the person named the folder by.
    """
    found = sorted(path for path in folder.rglob("*") if _is_meant(path.relative_to(folder), path))
    if not found:
        raise BadPictures(
            f"{flag} {folder}: no picture ({', '.join(sorted(SUFFIXES))}) in this folder; name one "
            "with pictures like those the model will see"
        )
    count = min(len(found), MOST)
    return [found[row * len(found) // count] for row in range(count)]


def _is_meant(inside: Path, path: Path) -> bool:
    """Whether a path is a picture by its name, and neither it nor a folder above is a system's."""
    *folders, name = inside.parts
    if path.suffix.lower() not in SUFFIXES or left_out(name) or not path.is_file():
        return False
    return not any(left_out(folder, folder=True) for folder in folders)


def prepared(files: Sequence[Path], size: Input) -> Prepared:
    """Prepare `files` as `predict` does on a board, bit for bit.

    Raises BadPictures if none is readable.
    """
    images: list[npt.NDArray[np.float32]] = []
    readable: list[Path] = []
    skipped: list[str] = []
    for file in files:
        try:
            images.append(prepare(frame_of(file), size)[None])
            readable.append(file)
        except UnreadablePicture as error:
            skipped.append(str(error))
    if not images:
        raise BadPictures(
            f"none of the {len(files)} pictures to calibrate on can be read ({skipped[0]})"
        )
    return Prepared(tuple(images), tuple(readable), tuple(skipped))
