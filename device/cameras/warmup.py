"""The first frames of a camera are thrown away until its exposure has settled.

Letters: H x W a frame in pixels.
"""

from __future__ import annotations

import time
from typing import Callable

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.cameras.base import Camera

# Settled: so many frames in a row, each about as bright as the one before.
STEADY_FRAMES = 4
STEADY_SHARE = 0.02
# A scene that itself changes never settles; this is enough for the exposure of any camera.
MOST_FRAMES, MOST_SECONDS = 60, 2.0
# Pixels that are looked at: every eighth of every eighth row.
STRIDE = 8
# Frames of a covered lens are about this dark, of 255; noise keeps them from 0.
BLACK = 5.0


def brightness(pixels: Pixels) -> float:
    """Return the mean, 0 to 255, of a sample of RGB pixels uint8[H,W,3]."""
    return float(pixels[::STRIDE, ::STRIDE].mean())


def warm_up(camera: Camera, clock: Callable[[], float] = time.monotonic) -> int:
    """Read until the brightness is steady, or long enough; return how many frames that took."""
    began, steady, before = clock(), 0, float("nan")
    for count in range(1, MOST_FRAMES + 1):
        now = brightness(camera.read())
        steady = steady + 1 if abs(now - before) <= max(STEADY_SHARE * before, 1.0) else 0
        if steady >= STEADY_FRAMES or clock() - began >= MOST_SECONDS:
            return count
        before = now
    return MOST_FRAMES
