"""Folders of small noisy pictures whose mean colour tells the class, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

import numpy as np
from PIL import Image

COLOURS = ((200, 50, 50), (50, 200, 50), (50, 50, 200), (200, 200, 50), (50, 200, 200))


def write_pictures(root: Path, counts: Mapping[str, int], seed: int = 0) -> Path:
    """Write `counts[class]` PNGs of 20 x 16 pixels to `root/<class>/`, and return `root`."""
    noise = np.random.default_rng(seed)
    for colour, (name, count) in zip(COLOURS, counts.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.clip(noise.normal(colour, 60.0, (16, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return root


def damage(path: Path) -> None:
    """Cut a picture in the middle: its header still reads, its pixels do not."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
