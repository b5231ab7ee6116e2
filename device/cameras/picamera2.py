"""Cameras on the ribbon of a Raspberry Pi, through picamera2 (Raspberry Pi OS 12 and 13).

picamera2 comes from apt, for the system's Python; an environment sees it when it was made with
--system-site-packages. `--camera picamera2` is the first camera, `--camera picamera2:1` the second.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.cameras.base import Camera, CameraLost, Wanted
from mobiletl.device.cameras.fixes import (
    BUSY_RIBBON_CAMERA,
    HIDDEN_PICAMERA2,
    NEWER_NUMPY,
    NO_PICAMERA2,
    NO_RIBBON_CAMERA,
    Fix,
)
from mobiletl.device.errors import MissingDependency, NoCamera
from mobiletl.device.printable import one_line

SYSTEM = Path("/usr/lib/python3/dist-packages/picamera2")
DEFAULT_SIZE = (640, 480)
# libcamera names formats by the order in a little-endian word: in memory this one is R, G, B.
RGB = "BGR888"
_SOURCE = re.compile(r"picamera2(?::([0-9]{1,3}))?")


def is_picamera2(source: str) -> bool:
    """Whether `source` means a camera on the ribbon."""
    return _SOURCE.fullmatch(source) is not None


def load_picamera2() -> Any:
    """Import picamera2, its log silenced but for errors; raises MissingDependency."""
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")
    try:
        return importlib.import_module("picamera2")
    except ImportError as error:
        fix = NO_PICAMERA2
        if SYSTEM.is_dir():
            fix = HIDDEN_PICAMERA2
        raise MissingDependency(_with_cause(fix, error)) from error
    except ValueError as error:
        # "numpy.dtype size changed": what a library says that was built for another NumPy.
        raise MissingDependency(_with_cause(NEWER_NUMPY, error)) from error


class Picamera2Camera(Camera):
    """One started camera on the ribbon."""

    live = True

    def __init__(self, library: Any, number: int, wanted: Wanted) -> None:
        """Open and start camera `number`; raises NoCamera."""
        self.name = "picamera2" if number == 0 else f"picamera2:{number}"
        there = library.Picamera2.global_camera_info()
        if number >= len(there):
            found = f"{len(there)} found" if there else "none found"
            raise NoCamera(f"{self.name}: {NO_RIBBON_CAMERA} ({found})")
        try:
            self._camera = library.Picamera2(number)
        except (RuntimeError, IndexError) as error:
            raise NoCamera(f"{self.name}: {_with_cause(BUSY_RIBBON_CAMERA, error)}") from error
        try:
            self._camera.configure(self._configuration(wanted))
            self._camera.start()
        except (RuntimeError, ValueError) as error:
            self._camera.close()
            raise NoCamera(f"{self.name}: {_with_cause(BUSY_RIBBON_CAMERA, error)}") from error

    def read(self) -> Pixels:
        """Return the next frame."""
        try:
            frame = self._camera.capture_array("main")
        except RuntimeError as error:
            raise CameraLost(f"{self.name} gives no more frames ({one_line(error)})") from error
        return np.ascontiguousarray(frame[..., :3], np.uint8)

    def skip(self) -> None:
        """Wait for the next frame without copying it."""
        try:
            self._camera.capture_metadata()
        except RuntimeError as error:
            raise CameraLost(f"{self.name} gives no more frames ({one_line(error)})") from error

    def lock_exposure(self) -> bool:
        """Keep the exposure, gain and colours that the last frame was taken with."""
        now = self._camera.capture_metadata()
        # A sensor without colours has no gains of colours.
        kept = ("ExposureTime", "AnalogueGain", "ColourGains")
        known = {name: now[name] for name in kept if name in now}
        if "ExposureTime" not in known:
            return False
        automatic = {"AeEnable": False}
        if "ColourGains" in known:
            automatic["AwbEnable"] = False
        self._camera.set_controls({**automatic, **known})
        return True

    def close(self) -> None:
        """Stop the camera and give it back."""
        self._camera.close()

    def _configuration(self, wanted: Wanted) -> Any:
        size = (wanted.width or DEFAULT_SIZE[0], wanted.height or DEFAULT_SIZE[1])
        # It takes even sizes only; the stream tells that another one came.
        even = tuple(max(side - side % 2, 2) for side in size)
        controls = {} if wanted.rate is None else {"FrameRate": wanted.rate}
        main = {"size": even, "format": RGB}
        return self._camera.create_video_configuration(main=main, controls=controls)


def open_picamera2(source: str, wanted: Wanted) -> Camera:
    """Open the camera that `source` names; raises MissingDependency and NoCamera."""
    named = _SOURCE.fullmatch(source)
    number = int(named[1]) if named is not None and named[1] else 0
    return Picamera2Camera(load_picamera2(), number, wanted)


def _with_cause(fix: Fix, error: Exception) -> str:
    return f"{fix.found} ({one_line(error)}); {fix.to_type}"
