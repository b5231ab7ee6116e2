"""Pictures to calibrate on, prepared as a board prepares them for evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mobiletl.core.errors import BadPictures

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
# Half to calibrate on, where ranges settle long before, half to count changed labels on.
MOST = 384


def picture_files(folder: Path) -> list[Path]:
    """At most `MOST` pictures below `folder`, spread evenly over its files in order of their names.

    Raises BadPictures if there is none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise BadPictures(
            f"--data {folder}: no picture ({', '.join(sorted(SUFFIXES))}) in this folder; name one "
            "with pictures like those the model will see"
        )
    return found[:: math.ceil(len(found) / MOST)]


def normalised(files: list[Path], size: dict[str, Any]) -> Iterator[npt.NDArray[np.float32]]:
    """Each readable file as [1,3,R,R]; `size` is the manifest's `input`.

    Raises BadPictures at the end if none was readable.
    """
    mean, std = (np.array(size[key], np.float32) for key in ("mean", "std"))
    readable = 0
    for file in files:
        try:
            with Image.open(file) as image:
                cropped = _cropped(ImageOps.exif_transpose(image).convert("RGB"), size)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        readable += 1
        pixels = (np.asarray(cropped, np.float32) / 255 - mean) / std
        yield np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    if not readable:
        raise BadPictures(f"none of the {len(files)} pictures to calibrate on can be read")


def _cropped(image: Image.Image, size: dict[str, Any]) -> Image.Image:
    """Short side to `resize`, then the centre square of `resolution`."""
    factor = size["resize"] / min(image.size)
    width, height = (max(size["resize"], round(side * factor)) for side in image.size)
    side = size["resolution"]
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + side, top + side))
