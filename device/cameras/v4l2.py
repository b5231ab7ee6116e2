"""Cameras that are a device of this machine, as USB cameras are; on Linux through V4L2."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.cameras.addresses import shown_source
from mobiletl.device.cameras.base import Camera, CameraLost, Wanted
from mobiletl.device.cameras.devices import video_devices
from mobiletl.device.cameras.fixes import no_such_device, of_device
from mobiletl.device.cameras.opencv import OpenCVCamera, load_opencv
from mobiletl.device.errors import NoCamera

# V4L2_EXPOSURE_MANUAL of the kernel's v4l2-controls.h.
MANUAL_EXPOSURE = 1
# What most USB cameras send uncompressed at full rate; larger frames need MJPEG.
SMALL_PIXELS = 640 * 480


def is_device(source: str) -> bool:
    """Whether `source` means a device: its number, or its file, there or not.

    /dev/shm has folders and files of anybody.
    """
    number = source.isascii() and source.isdigit()
    return number or (source.startswith("/dev/") and not source.startswith("/dev/shm/"))


class DeviceCamera(Camera):
    """One open device; when it is lost, it says what the machine's files say of it."""

    live = True

    def __init__(self, cv2: Any, capture: Any, name: str, path: str) -> None:
        """Take over `capture`, which is open."""
        self.name = name
        self._cv2, self._capture, self._path = cv2, capture, path
        self._frames = OpenCVCamera(cv2, capture, name, live=True)

    def read(self) -> Pixels:
        """Return the next frame."""
        try:
            return self._frames.read()
        except CameraLost as lost:
            raise CameraLost(f"{lost}{why_not(self._path)}") from lost

    def skip(self) -> None:
        """Pass over the next frame without decoding it."""
        try:
            self._frames.skip()
        except CameraLost as lost:
            raise CameraLost(f"{lost}{why_not(self._path)}") from lost

    def lock_exposure(self) -> bool:
        """Keep what the automatic exposure and white balance have found; True if they obey."""
        cv2, capture = self._cv2, self._capture
        exposure = capture.get(cv2.CAP_PROP_EXPOSURE)
        capture.set(cv2.CAP_PROP_AUTO_WB, 0)
        if not capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL_EXPOSURE):
            return False
        # A camera that does not tell its automatic exposure keeps what it has.
        if exposure > 0:
            capture.set(cv2.CAP_PROP_EXPOSURE, exposure)
        return bool(capture.get(cv2.CAP_PROP_AUTO_EXPOSURE) == MANUAL_EXPOSURE)

    def close(self) -> None:
        """Give the device back."""
        self._frames.close()


def open_device(source: str, wanted: Wanted) -> Camera:
    """Open a device by its number or its file; raises NoCamera with what keeps it from opening."""
    cv2, name = load_opencv(), f"camera {shown_source(source)}"
    linux = sys.platform.startswith("linux")
    # Python and C both read "007" as 7; the kernel has no such file.
    path = f"/dev/video{int(source)}" if source.isdigit() else source
    named: int | str = int(source) if source.isdigit() else source
    capture = cv2.VideoCapture(named, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
    if not capture.isOpened():
        raise NoCamera(f"{name} cannot be opened{why_not(path)}")
    if wanted.width and wanted.height:
        if wanted.width * wanted.height > SMALL_PIXELS:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height)
    if wanted.rate:
        capture.set(cv2.CAP_PROP_FPS, wanted.rate)
    return DeviceCamera(cv2, capture, name, path)


def why_not(path: str) -> str:
    """Say what keeps the device `path` from giving pictures, to follow a sentence about it."""
    if not sys.platform.startswith("linux"):
        return "; close other programs that use it, and allow this terminal to use the camera"
    # A name of its own, such as /dev/v4l/by-id/..., is a link to the device.
    real = os.path.realpath(path)
    devices = video_devices()
    device = next((one for one in devices if one.path == real), None)
    if device is None and not Path(real).exists():
        return f": {no_such_device(shown_source(path), devices)}"
    fix = None if device is None else of_device(device)
    if fix is None:
        return "; unplug it, plug it in again, and look at what the kernel says: sudo dmesg | tail"
    return f": {fix}"
