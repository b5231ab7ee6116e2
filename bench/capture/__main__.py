"""How frames are chosen, measured on made videos of real pictures.

    python -m bench.capture --data sets/trashnet6 sets/grocery20 sets/animals4

Of each folder, however its pictures are sorted, two videos are made: in good light and in little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.capture.videos import HEIGHT, WIDTH, Shot, video
from mobiletl.device.bundle.decode import UnreadablePicture, decode
from mobiletl.device.capturing import looks
from mobiletl.device.capturing.looks import Look, difference, look_at, small_of
from mobiletl.device.capturing.selection import LEVEL, RECENT, Rules, Selection, SharpnessLevel
from mobiletl.device.pictures.dataset import files_below

LIGHTS = (1.0, 0.35)
# Deviations of a smear, in pixels of a frame of 480 x 360: what is sharp, and what is not.
SHARP, BLURRED = 0.7, 2.0
# Two views are alike that are less apart: a share of the width, and of the distance.
ALIKE_SHIFT, ALIKE_ZOOM = 0.02, 1.02
Video = list[tuple[Shot, Look, float]]


def main(argv: list[str] | None = None) -> int:
    """Print three tables."""
    flags = _parser().parse_args(argv)
    files = {data.name: files_below(data) for data in flags.data}
    videos = [
        _looked(list(found), len(name), flags.seconds, light)
        for name, found in files.items()
        for light in LIGHTS
    ]
    shots = sum(map(len, videos))
    print(f"{len(videos)} videos, {shots} frames\n")
    _sharpness(videos)
    _difference(videos, files)
    _whole(videos)
    return 0


def _looked(files: list[Path], seed: int, seconds: float, light: float) -> Video:
    return [
        (shot, look_at(shot.pixels), _laplacian(shot.pixels, 256))
        for shot in video(files, seed, seconds, light)
    ]


def _laplacian(pixels: NDArray[np.uint8], side: int) -> float:
    """As looks.py has it, at another size."""
    before, looks.SHARP_SIDE = looks.SHARP_SIDE, side
    try:
        return look_at(pixels).sharpness
    finally:
        looks.SHARP_SIDE = before


def _sharpness(videos: list[Video]) -> None:
    print(f"sharp (smear up to {SHARP} px) and blurred (from {BLURRED} px) frames let through, %")
    print("side  frames before  " + "".join(f"{share:>14}" for share in (0.3, 0.4, 0.5, 0.6, 0.7)))
    blur = np.array([shot.blur_px for one in videos for shot, _, _ in one])
    sharp, blurred = blur <= SHARP, blur >= BLURRED
    for side in (looks.SHARP_SIDE, 256):
        for window in (25, RECENT, 100):
            shares = np.concatenate([_shares(one, side, window) for one in videos])
            cells = [
                f"{(shares[sharp] >= t).mean():8.1%}{(shares[blurred] >= t).mean():6.1%}"
                for t in (0.3, 0.4, 0.5, 0.6, 0.7)
            ]
            print(f"{side:4}{window:15}  " + "".join(cells).replace("%", " "))
    values = np.array([look.sharpness for one in videos for _, look, _ in one])
    least = np.quantile(values[sharp], 0.05)
    print(
        f"one number for all videos that 95 % of the sharp frames pass lets "
        f"{(values[blurred] >= least).mean():.0%} of the blurred ones through\n"
    )


def _shares(one: Video, side: int, window: int) -> NDArray[np.float64]:
    recent: deque[float] = deque(maxlen=window)
    found = []
    for _, look, larger in one:
        recent.append(larger if side == 256 else look.sharpness)
        found.append(recent[-1] / np.quantile(np.array(recent), LEVEL))
    return np.array(found)


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
        level, selection, kept = SharpnessLevel(), Selection(), []
        for shot, look, _ in one:
            began = time.process_time()
            if (judgement := selection.judge(look, level.share(look), Rules())).kept:
                selection.add(look.small)
                kept.append(shot)
            assert judgement.difference != 0
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
    add("--data", type=Path, nargs="+", required=True, help="folders of pictures")
    add("--seconds", type=float, default=12.0, help="of each video")
    return parser


if __name__ == "__main__":
    sys.exit(main())
