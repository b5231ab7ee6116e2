"""Videos of which every frame is known: what it shows, and how much it is blurred.

A camera of 480 x 360 pixels looks at a wall of real pictures at their own size. It rests, pans,
zooms, shakes, loses its focus and gets too little light. Motion is averaged over half of a frame's
time, as a shutter does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

WIDTH, HEIGHT, RATE = 480, 360, 25
WALL = (1500, 1200)
TILE = 250
_SHUTTER, _PARTS = 0.5, 6


@dataclass(frozen=True)
class Shot:
    """One frame and its truth: `x`, `y` the middle in pixels of the wall, `zoom` the pixels of the
    wall in one of the frame, `blur_px` the deviation of what smears it, in pixels of the frame.
    """

    pixels: NDArray[np.uint8]
    x: float
    y: float
    zoom: float
    blur_px: float
    passage: str


def wall(files: list[Path], random: np.random.Generator) -> Image.Image:
    """Pictures side by side, none enlarged."""
    canvas = Image.new("RGB", WALL)
    places = [(x, y) for y in range(0, WALL[1], TILE) for x in range(0, WALL[0], TILE)]
    chosen = random.choice(len(files), len(places), replace=len(files) < len(places))
    for place, row in zip(places, chosen, strict=True):
        with Image.open(files[row]) as file:
            picture = file.convert("RGB")
        if min(picture.size) < TILE:
            side = min(picture.size)
            canvas.paste(picture.crop((0, 0, side, side)).resize((TILE, TILE)), place)
        else:
            canvas.paste(picture.crop((0, 0, TILE, TILE)), place)
    return canvas


PASSAGES = ("still", "slow pan", "fast pan", "zoom", "focus", "shake")


def video(files: list[Path], seed: int, seconds: float, light: float = 1.0) -> Iterator[Shot]:
    """Yield frames; `light` below 1 darkens them and makes noise stronger."""
    random = np.random.default_rng(seed)
    scene = wall(files, random)
    x, y, zoom = WALL[0] / 2, WALL[1] / 2, 1.0
    made = 0
    while made < seconds * RATE:
        passage = PASSAGES[int(random.integers(len(PASSAGES)))]
        length = int(random.uniform(0.6, 2.2) * RATE)
        way = float(random.uniform(0, 2 * np.pi))
        for row in range(length):
            former = (x, y, zoom)
            focus = 4.0 * float(np.sin(np.pi * row / length)) if passage == "focus" else 0.0
            (x, y, zoom), way = _moved(passage, former, way, random)
            yield _shot(scene, former, (x, y, zoom), focus, light, passage, random)
            made += 1


def _moved(
    passage: str, at: tuple[float, float, float], way: float, random: np.random.Generator
) -> tuple[tuple[float, float, float], float]:
    """The next middle and zoom, and the way on; the wall's edges turn a camera round."""
    x, y, zoom = at
    speed = {"slow pan": 2.0, "fast pan": 22.0}.get(passage, 0.0)
    if passage == "zoom":
        zoom *= 1.008 if way < np.pi else 1 / 1.008
    elif passage == "shake":
        speed, way = float(random.uniform(0, 14)), float(random.uniform(0, 2 * np.pi))
    step = speed + float(random.normal(0, 0.15))
    x, y = x + step * np.cos(way), y + step * np.sin(way)
    zoom = float(np.clip(zoom, 0.8, 1.6))
    half = (zoom * WIDTH / 2 + 2, zoom * HEIGHT / 2 + 2)
    if not half[0] < x < WALL[0] - half[0] or not half[1] < y < WALL[1] - half[1]:
        way += np.pi
    x = float(np.clip(x, half[0], WALL[0] - half[0]))
    y = float(np.clip(y, half[1], WALL[1] - half[1]))
    return (x, y, zoom), way


def _shot(
    scene: Image.Image,
    former: tuple[float, float, float],
    now: tuple[float, float, float],
    focus: float,
    light: float,
    passage: str,
    random: np.random.Generator,
) -> Shot:
    moved = float(np.hypot(now[0] - former[0], now[1] - former[1])) / now[2]
    parts = _PARTS if moved > 1 else 1
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for part in range(parts):
        share = 1 - _SHUTTER * part / parts
        x, y, zoom = (a + share * (b - a) for a, b in zip(former, now, strict=True))
        box = (
            *(x - zoom * WIDTH / 2, y - zoom * HEIGHT / 2),
            *(x + zoom * WIDTH / 2, y + zoom * HEIGHT / 2),
        )
        view = scene.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box)
        total += np.asarray(view.filter(ImageFilter.GaussianBlur(focus)) if focus else view)
    # The deviation of a smear of length L is L / sqrt(12).
    blur = float(np.hypot(_SHUTTER * moved / np.sqrt(12), focus))
    exposure = light * (1 + 0.03 * float(random.standard_normal()))
    noise = random.standard_normal(total.shape, np.float32) * (2.5 / light**0.5)
    pixels = np.clip(exposure * total / parts + noise, 0, 255).astype(np.uint8)
    return Shot(pixels, now[0], now[1], now[2], blur, passage)
