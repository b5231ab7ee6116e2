"""The flags of a camera, alike in every command that looks through one."""

from __future__ import annotations

import argparse
import math
import re
from typing import NamedTuple

from mobiletl.device.bundle.view import TURNS, AskedView, Region, View
from mobiletl.device.cameras.base import Wanted
from mobiletl.device.cameras.table import KINDS

# Larger frames than any camera's; beyond them a typing error is likelier.
MOST_SIDE = 16384
MOST_RATE = 1000.0
# Flags that say nothing without a camera, by their names in the parsed flags.
_OF_CAMERA = ("camera_size", "camera_rate", "lock_exposure", "rotate", "roi")


class ChosenCamera(NamedTuple):
    """What the flags ask for; `source` is None without --camera."""

    source: str | None
    wanted: Wanted
    view: AskedView


def add_camera(parser: argparse.ArgumentParser) -> None:
    """Add --camera and what belongs to it."""
    add = parser.add_argument
    add(
        "--camera",
        metavar="SOURCE",
        help=f"where frames come from: {'; '.join(kind.shown for kind in KINDS)}",
    )
    add("--camera-size", metavar="WxH", help="ask the camera for frames of this size: 1280x720")
    add(
        "--camera-rate",
        type=float,
        metavar="FPS",
        help="ask the camera for so many frames a second; a file is played at this rate",
    )
    add(
        "--lock-exposure",
        action="store_true",
        help="keep exposure and white balance as they are once the camera is warm",
    )
    add(
        "--rotate",
        type=int,
        metavar="DEGREES",
        help="turn frames clockwise by 90, 180 or 270 (default: as the data or the state says)",
    )
    add(
        "--roi",
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="cut this out of the turned frame, in shares of it: 0.25,0,0.5,1 is its middle half "
        "(default: as the data or the state says)",
    )


def camera_of(flags: argparse.Namespace) -> ChosenCamera:
    """Return what the flags ask for; `camera_problems` come first."""
    width, height = _size(flags.camera_size) or (None, None)
    wanted = Wanted(width, height, flags.camera_rate, flags.lock_exposure)
    region = None if flags.roi is None else _region(flags.roi)
    return ChosenCamera(flags.camera, wanted, AskedView(flags.rotate, region))


def camera_problems(flags: argparse.Namespace) -> list[str]:
    """Say what is wrong with these flags, all of it."""
    problems = []
    if flags.camera is not None and not flags.camera.strip():
        problems.append("--camera is empty, expected where frames come from")
    if flags.camera is None:
        problems += [
            f"--{name.replace('_', '-')} is of a camera; name one with --camera"
            for name in _OF_CAMERA
            # Not `in`: a rotation of 0 equals False.
            if getattr(flags, name) is not None and getattr(flags, name) is not False
        ]
    if flags.camera_size is not None and _size(flags.camera_size) is None:
        problems.append(
            f"--camera-size is {flags.camera_size!r}, expected width and height in pixels: 1280x720"
        )
    rate = flags.camera_rate
    if rate is not None and not 0 < rate <= MOST_RATE:
        problems.append(f"--camera-rate is {rate:g}, expected more than 0, at most {MOST_RATE:g}")
    if flags.rotate is not None and flags.rotate not in TURNS:
        problems.append(f"--rotate is {flags.rotate}, expected 0, 90, 180 or 270")
    return problems + _region_problems(flags.roi)


def _region_problems(roi: str | None) -> list[str]:
    if roi is None:
        return []
    region = _region(roi)
    if region is None:
        return [f"--roi is {roi!r}, expected four numbers: LEFT,TOP,WIDTH,HEIGHT"]
    try:
        View(region=region)
    except ValueError as error:
        return [f"--{error}"]
    return []


def _size(words: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", words or "", re.ASCII)
    if found is None:
        return None
    width, height = int(found[1]), int(found[2])
    return (width, height) if 0 < width <= MOST_SIDE and 0 < height <= MOST_SIDE else None


def _region(words: str) -> Region | None:
    try:
        shares = [float(word) for word in words.split(",")]
    except ValueError:
        return None
    if len(shares) != 4 or not all(map(math.isfinite, shares)):
        return None
    left, top, width, height = shares
    return left, top, width, height
