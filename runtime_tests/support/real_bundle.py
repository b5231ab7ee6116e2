"""What tests of the whole chain share: the embedded network as a bundle, digits as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from mobiletl.export.writing.export_bundle import Request, export_bundle

RESOLUTION = 64
SPLITS = {"train": slice(0, 24), "val": slice(24, 32)}


def export_embedded(
    out: Path, method: str = "mobiletl", blocks: int | None = 3, optimizer: str = "sgd"
) -> Path:
    """Export the embedded backbone to `out`; `blocks` None for ft-last."""
    return export_bundle(Request("mbv2-0.35", "demo", method, blocks, RESOLUTION, optimizer, out))


def write_digits(folder: Path, digits: int = 4) -> Path:
    """24 pictures to train on and 8 to validate on, of each of the first `digits` digits."""
    pictures, labels = load_digits(return_X_y=True)
    pixels = np.round(pictures.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    for digit in range(digits):
        chosen = np.flatnonzero(labels == digit)
        for split, part in SPLITS.items():
            target = folder / split / str(digit)
            target.mkdir(parents=True)
            for index in chosen[part]:
                Image.fromarray(pixels[index]).save(target / f"{index:04d}.png")
    return folder
