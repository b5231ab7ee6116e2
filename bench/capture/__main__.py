"""How frames are chosen, measured on made videos of real pictures.

    python -m bench.capture --data sets/trashnet6 sets/grocery20 sets/animals4

Of the pictures in each folder's `train/` two videos are made: in good light and in little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bench.capture.videos import HEIGHT, WIDTH, Shot, video
from mobiletl.device.bundle.decode import UnreadablePicture, decode
from mobiletl.device.capturing import looks
from mobiletl.device.capturing.looks import Look, difference, look_at, small_of
from mobiletl.device.capturing.selection import Rules, Selection
from mobiletl.device.pictures.dataset import files_below

LIGHTS = (1.0, 0.35)
# Deviations of a smear, in pixels of a frame of 480 x 360: what is sharp, and what is not.
SHARP, BLURRED = 0.7, 2.0
# Two views are alike that are less apart: a share of the width, and of the distance.
ALIKE_SHIFT, ALIKE_ZOOM = 0.02, 1.02
Video = list[tuple[Shot, Look, float]]


def main(argv: list[str] | None = None) -> int:
    """Print the tables of docs/capture.md."""
    flags = _parser().parse_args(argv)
    files = {data.name: files_below(data / "train") for data in flags.data}
    videos = [
        _looked(found, 10 * row + int(light), flags.seconds, light)
        for row, found in enumerate(files.values())
        for light in LIGHTS
    ]
    shots = sum(map(len, videos))
    print(f"{len(videos)} videos, {shots} frames\n")
    _sharpness(videos)
    _pictures(files)
    _difference(videos, files)
    _whole(videos)
    return 0


def _looked(files: list[Path], seed: int, seconds: float, light: float) -> Video:
    return [
        (shot, look_at(shot.pixels), _edges_of(shot.pixels))
        for shot in video(files, seed, seconds, light)
    ]


def _edges_of(pixels: NDArray[np.uint8]) -> float:
    """The variance of the Laplacian, which is often taken for sharpness."""
    return looks._edges(Image.fromarray(pixels).convert("L"), looks.SHARP_SIDE)


def _sharpness(videos: list[Video]) -> None:
    print(
        f"frames let through: sharp (smear up to {SHARP} px), and blurred ones (from {BLURRED} px)"
    )
    print(f"{'':30}{'sharp':>9}" + "".join(f"{f'light {light}':>12}" for light in LIGHTS))
    shots = [(shot, look, edges) for one in videos for shot, look, edges in one]
    truth = Truth(
        np.array([shot.blur_px for shot, _, _ in shots]),
        np.array([LIGHTS[row % len(LIGHTS)] for row, one in enumerate(videos) for _ in one]),
    )
    ours = np.array([look.sharpness for _, look, _ in shots])
    edges = np.array([edges for _, _, edges in shots])
    beside = np.concatenate([_beside_recent(one) for one in videos])
    for least in (0.24, 0.28, 0.32, 0.36, 0.40):
        _passed(f"fine by coarse detail >= {least:.2f}", ours >= least, truth)
    for least in (0.3, 0.5, 0.7):
        _passed(f"variance >= {least:.1f} of recent", beside >= least, truth)
    least = float(np.quantile(edges[truth.blur_px <= SHARP], 0.05))
    _passed(f"variance >= {least:.0f}", edges >= least, truth)
    print()


@dataclass(frozen=True)
class Truth:
    """Of each frame."""

    blur_px: NDArray[np.float64]
    light: NDArray[np.float64]


def _passed(name: str, passed: NDArray[np.bool_], truth: Truth) -> None:
    cells = f"{passed[truth.blur_px <= SHARP].mean():9.1%}"
    for light in LIGHTS:
        blurred = (truth.blur_px >= BLURRED) & (truth.light == light)
        cells += f"{passed[blurred].mean():12.1%}"
    print(f"{name:30}{cells}")


def _beside_recent(one: Video) -> NDArray[np.float64]:
    """The variance as a share of the ninth decile of 50 frames, 2 seconds."""
    recent: deque[float] = deque(maxlen=50)
    found = []
    for _, _, edges in one:
        recent.append(edges)
        found.append(edges / np.quantile(np.array(recent), 0.9))
    return np.array(found)


def _pictures(files: dict[str, list[Path]]) -> None:
    """Real pictures, and what a smear of 2 pixels of 360 makes of them."""
    print("sharpness of real pictures, 2 %, half and 98 %; and of the same, blurred by 2 px")
    for name, found in files.items():
        sharp, blurred = [], []
        for path in found[:: max(len(found) // 100, 1)]:
            image = decode(path, 256)
            smear = ImageFilter.GaussianBlur(2 * min(image.size) / 360)
            sharp.append(look_at(np.array(image)).sharpness)
            blurred.append(look_at(np.array(image.filter(smear))).sharpness)
        cells = (np.quantile(values, [0.02, 0.5, 0.98]) for values in (sharp, blurred))
        print(f"{name:30}" + "   ".join("".join(f"{v:6.2f}" for v in row) for row in cells))
    print()


def _difference(videos: list[Video], files: dict[str, list[Path]]) -> None:
    print("difference            1 %    10 %    50 %    90 %    99 %")
    still = [pair for one in videos for pair in _still(one)]
    _row("the same view again", still)
    pictures = [path for found in files.values() for path in found[:: max(len(found) // 100, 1)]]
    for shift in (0.02, 0.05, 0.1, 0.2):
        _row(f"moved by {shift:.0%} of width", _moved(pictures, shift, 1.0))
    for zoom in (1.05, 1.1, 1.2):
        _row(f"{zoom:g} x as near", _moved(pictures, 0.0, zoom))
    print()


def _row(name: str, values: list[float]) -> None:
    cells = "".join(f"{v:8.2f}" for v in np.quantile(values, [0.01, 0.1, 0.5, 0.9, 0.99]))
    print(f"{name:20}{cells}")


def _still(one: Video) -> list[float]:
    """Differences of frames of one view, up to 2 seconds apart."""
    found = []
    for row, (shot, look, _) in enumerate(one):
        for other, later, _ in one[row + 1 : row + 51 : 7]:
            near = abs(shot.x - other.x) + abs(shot.y - other.y) < 2 * shot.zoom
            sharp = max(shot.blur_px, other.blur_px) <= SHARP
            if near and sharp and abs(shot.zoom / other.zoom - 1) < 0.005:
                found.append(float(difference(look.small, later.small[None])[0]))
    return found


def _moved(pictures: list[Path], shift: float, zoom: float) -> list[float]:
    """Differences of two views of real pictures, each 70 % of the picture's size."""
    found = []
    for path in pictures:
        try:
            image = decode(path, 256)
        except UnreadablePicture:
            continue
        side = 0.7 * min(image.size)
        x, y = (image.width - side) / 2, (image.height - side) / 2
        first = image.crop((round(x), round(y), round(x + side), round(y + side)))
        step, near = shift * side, side * (1 - 1 / zoom) / 2
        box = (x + step + near, y + near, x + step + side - near, y + side - near)
        size = (round(side), round(side))
        other = image.resize(size, Image.Resampling.BICUBIC, box)
        found.append(float(difference(small_of(first), small_of(other)[None])[0]))
    return found


def _whole(videos: list[Video]) -> None:
    """What is kept of the videos, beside as many frames that are equally far apart in time."""
    ours: list[list[Shot]] = []
    began, seconds = time.process_time(), 0.0
    for one in videos:
        selection, kept = Selection(), []
        for shot, look, _ in one:
            began = time.process_time()
            if selection.judge(look, Rules()).kept:
                selection.add(look.small)
                kept.append(shot)
            seconds += time.process_time() - began
        ours.append(kept)
    theirs = [
        [one[row][0] for row in np.linspace(0, len(one) - 1, len(kept)).astype(int)]
        for one, kept in zip(videos, ours, strict=True)
    ]
    frames = sum(map(len, videos))
    began = time.process_time()
    for shot, _, _ in videos[0]:
        look_at(shot.pixels)
    looking = (time.process_time() - began) / len(videos[0])
    print(f"kept of {frames} frames    number   blurred   alike another")
    for name, parts in (("chosen", ours), ("every n-th", theirs)):
        shots = [shot for part in parts for shot in part]
        blurred = np.mean([shot.blur_px >= BLURRED for shot in shots])
        alike = np.mean([_has_alike(shot, part) for part in parts for shot in part])
        print(f"{name:20}{len(shots):14}{blurred:10.1%}{alike:16.1%}")
    print(
        f"looking at a frame of {WIDTH} x {HEIGHT} takes {1000 * looking:.2f} ms of one core, "
        f"judging it {1000 * seconds / frames:.2f} ms"
    )


def _has_alike(shot: Shot, part: list[Shot]) -> bool:
    for other in part:
        apart = np.hypot(shot.x - other.x, shot.y - other.y) / shot.zoom / WIDTH
        zoom = max(shot.zoom / other.zoom, other.zoom / shot.zoom)
        if other is not shot and apart < ALIKE_SHIFT and zoom < ALIKE_ZOOM:
            return True
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.capture", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, help="folders with train/")
    add("--seconds", type=float, default=12.0, help="of each video")
    return parser


if __name__ == "__main__":
    sys.exit(main())
