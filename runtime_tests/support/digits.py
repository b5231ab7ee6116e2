"""What tests of the whole chain train on: handwritten digits as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SPLITS = {"train": slice(0, 24), "val": slice(24, 32)}


def write_digits(folder: Path, digits: int = 4) -> Path:
    """24 pictures to train on and 8 to validate on, of each of the first `digits` digits."""
    from sklearn.datasets import load_digits  # late: it takes seconds that most tests need not wait

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
