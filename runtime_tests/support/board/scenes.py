"""Pictures as a camera may see them: unlike one another, sharp or not, for tests of capturing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


def scene(seed: int, blur: float = 0.0) -> Image.Image:
    """Return a checked picture of 96 x 72 pixels; other seeds have nothing in common with it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(coarse).resize((96, 72), Image.Resampling.NEAREST)
    return image.filter(ImageFilter.GaussianBlur(blur)) if blur else image


def write_scenes(folder: Path, seeds: list[int], first: int = 0, blur: float = 0.0) -> Path:
    """Write a frame for each of `seeds`, numbered from `first`; equal seeds are a still scene."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[int, bytes] = {}
    for row, seed in enumerate(seeds, first):
        if seed not in drawn:
            stream = io.BytesIO()
            scene(seed, blur).save(stream, "PNG")
            drawn[seed] = stream.getvalue()
        (folder / f"{row:04}.png").write_bytes(drawn[seed])
    return folder
