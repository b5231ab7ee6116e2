"""Cameras that OpenCV opens: addresses, video files, GStreamer pipelines; devices are in v4l2.py.

OpenCV is imported when the first of them is opened. Its own messages are silenced, since they hold
addresses with their passwords; what failed is said by the errors here.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
from typing import Any, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.cameras.addresses import shown_source
from mobiletl.device.cameras.base import Camera, CameraEnded, CameraLost, Wanted
from mobiletl.device.cameras.fixes import NO_GSTREAMER, NO_OPENCV
from mobiletl.device.cameras.pace import Pace
from mobiletl.device.errors import MissingDependency, NoCamera
from mobiletl.device.printable import one_line

# FFmpeg gives up by itself, so that no thread waits for a dead address for ever.
OPEN_MS, READ_MS = 10_000, 5_000
# Addresses under which there may be a file that ends.
RECORDINGS = ("http://", "https://", "ftp://", "file://")
# FFmpeg's level "quiet".
QUIET = "-8"


def load_opencv() -> Any:
    """Import OpenCV, silenced; raises MissingDependency with what to type."""
    # Read when FFmpeg opens its first address.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", QUIET)
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError as error:
        raise MissingDependency(
            f"{NO_OPENCV.found}, which this camera needs ({one_line(error)}); {NO_OPENCV.to_type}"
        ) from error
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(0)
    return cv2


class OpenCVCamera(Camera):
    """One open `cv2.VideoCapture`."""

    def __init__(
        self, cv2: Any, capture: Any, name: str, live: bool, rate: float | None = None
    ) -> None:
        """Take over `capture`, which is open; what is not live is played at `rate` a second."""
        self._cv2, self._capture = cv2, capture
        self.name, self.live = name, live
        self._pace = Pace(None if live else rate)
        self._frames = 0

    def read(self) -> Pixels:
        """Return the next frame."""
        cv2 = self._cv2
        try:
            found, frame = self._capture.read()
        except cv2.error as error:
            raise CameraLost(f"{self.name} failed: {one_line(error)}") from error
        if not found or frame is None:
            raise self._over()
        self._frames += 1
        self._pace.keep()
        if frame.ndim == 2:
            return _pixels(cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB))
        code = cv2.COLOR_BGRA2RGB if frame.shape[2] == 4 else cv2.COLOR_BGR2RGB
        return _pixels(cv2.cvtColor(frame, code))

    def skip(self) -> None:
        """Pass over the next frame; a device's MJPEG is not decoded."""
        try:
            found = self._capture.grab()
        except self._cv2.error as error:
            raise CameraLost(f"{self.name} failed: {one_line(error)}") from error
        if not found:
            raise self._over()
        self._frames += 1

    def close(self) -> None:
        """Release the device, the connection or the file."""
        self._capture.release()

    def _over(self) -> Exception:
        if self.live:
            return CameraLost(f"{self.name} gives no {'more ' if self._frames else ''}frames")
        return CameraEnded(f"all {self._frames} frames of {self.name} are played")


def open_address(source: str, wanted: Wanted) -> Camera:
    """Open an address: RTSP, MJPEG or a video over HTTP, whatever FFmpeg reads."""
    cv2, name = load_opencv(), shown_source(source)
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, *_timeouts(cv2))
    if not capture.isOpened():
        raise NoCamera(
            f"{name} cannot be opened: nothing answers there, it refuses the password, or it is no "
            "video; open the same address in a player (ffplay, VLC) on this network"
        )
    # A recording says how long it is; what RTSP servers say of a live stream is not to be believed.
    recording = source.lower().startswith(RECORDINGS)
    live = not (recording and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0)
    return OpenCVCamera(cv2, capture, name, live, wanted.rate)


def open_video(source: str, wanted: Wanted) -> Camera:
    """Open a video file."""
    cv2, name = load_opencv(), shown_source(source)
    capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise NoCamera(
            f"{name} is no video that OpenCV can read; play it elsewhere, or convert it with: "
            "ffmpeg -i FILE -c:v libx264 video.mp4"
        )
    return OpenCVCamera(cv2, capture, name, live=False, rate=wanted.rate)


def open_pipeline(source: str, wanted: Wanted) -> Camera:
    """Open a GStreamer pipeline; its end, an appsink of BGR frames, is added where it has none."""
    cv2, name = load_opencv(), shown_source(source)
    if not _has_gstreamer(cv2):
        raise MissingDependency(f"{name} needs GStreamer, but {NO_GSTREAMER}")
    _silence_glib()
    whole = source if "appsink" in source else source + _sink(source)
    capture = cv2.VideoCapture(whole, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise NoCamera(
            f"{name} cannot be opened; try it by itself: gst-launch-1.0 PIPELINE ! fakesink"
        )
    return OpenCVCamera(cv2, capture, name, not _bounded(source), wanted.rate)


def _has_gstreamer(cv2: Any) -> bool:
    registry = cv2.videoio_registry
    # Before 4.5.1 what is listed is built in; later also what a plug-in might add.
    if hasattr(registry, "hasBackend"):
        return bool(registry.hasBackend(cv2.CAP_GSTREAMER))
    return cv2.CAP_GSTREAMER in registry.getBackends()


def _silence_glib() -> None:
    """Let GLib drop its messages, with which GStreamer buries the line that says what failed.

    GStreamer's threads log while OpenCV holds the interpreter, so no function of Python's may be
    called there; g_direct_hash returns its argument and does nothing else.
    """
    with contextlib.suppress(OSError, AttributeError):  # a build with GLib under another name
        glib = ctypes.CDLL("libglib-2.0.so.0")
        nothing = ctypes.cast(glib.g_direct_hash, ctypes.c_void_p)
        glib.g_log_set_default_handler(nothing, None)


def _sink(source: str) -> str:
    ending = "" if _bounded(source) else " drop=true max-buffers=1"
    return f" ! videoconvert ! video/x-raw,format=BGR ! appsink{ending} sync=false"


def _bounded(source: str) -> bool:
    """Whether a pipeline ends by itself, so that its frames wait for their reader."""
    return "filesrc" in source or "num-buffers=" in source


def _timeouts(cv2: Any) -> Sequence[Sequence[int]]:
    """Return what follows the address in the call that opens it."""
    settings = (("CAP_PROP_OPEN_TIMEOUT_MSEC", OPEN_MS), ("CAP_PROP_READ_TIMEOUT_MSEC", READ_MS))
    known = [(getattr(cv2, name), ms) for name, ms in settings if hasattr(cv2, name)]
    # OpenCV before 4.5.2 has neither, nor takes such a list; the stream's own time-out is left.
    return [[value for pair in known for value in pair]] if known else []


def _pixels(frame: Any) -> Pixels:
    return np.ascontiguousarray(frame, np.uint8)
