"""Which camera a person means by a word: one row for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from mobiletl.device.cameras.addresses import is_address, is_pipeline
from mobiletl.device.cameras.base import Camera, Wanted
from mobiletl.device.cameras.folder import FolderCamera
from mobiletl.device.cameras.opencv import (
    open_address,
    open_pipeline,
    open_video,
)
from mobiletl.device.cameras.picamera2 import is_picamera2, open_picamera2
from mobiletl.device.cameras.v4l2 import is_device, open_device
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import printable


@dataclass(frozen=True)
class Kind:
    """One row: the first that `means` a source opens it."""

    name: str
    shown: str
    """How a person writes it, for messages and help."""
    means: Callable[[str], bool]
    open: Callable[[str, Wanted], Camera]
    """Raises CameraLost, NoCamera, MissingDependency."""


def _folder(source: str, wanted: Wanted) -> Camera:
    return FolderCamera(Path(source), wanted.rate)


KINDS: tuple[Kind, ...] = (
    Kind(
        "ribbon", "picamera2, a Raspberry Pi's camera on the ribbon", is_picamera2, open_picamera2
    ),
    Kind("pipeline", "a GStreamer pipeline ('... ! ...')", is_pipeline, open_pipeline),
    Kind("address", "an address (rtsp://..., http://...)", is_address, open_address),
    Kind("device", "a number or file of a device (0, /dev/video0)", is_device, open_device),
    Kind("folder", "a folder of pictures", lambda source: Path(source).is_dir(), _folder),
    Kind("video", "a video file", lambda source: Path(source).is_file(), open_video),
)


def kind_of(source: str) -> Kind:
    """Return the row for `source`; raises UsageError, which lists all kinds."""
    for kind in KINDS:
        if kind.means(source):
            return kind
    known = "; ".join(kind.shown for kind in KINDS)
    raise UsageError(f"--camera {printable(source)} is none of: {known}")
