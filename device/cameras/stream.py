"""Frames of one camera, one after another, through whatever happens to it."""

from __future__ import annotations

import time
from typing import Callable

from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.view import View
from mobiletl.device.cameras.base import Camera, CameraLost, Wanted
from mobiletl.device.cameras.table import kind_of
from mobiletl.device.errors import NoCamera


class CameraStream(Closing):
    """A context manager; `open_stream` makes one."""

    def __init__(self, camera: Camera, view: View) -> None:
        """Take over an open camera."""
        self._camera, self.view = camera, view
        self.name = camera.name
        self.count = 0

    def read(self) -> Frame:
        """Return the next frame in its view, with its time; waits for it.

        Raises CameraEnded after the last, and NoCamera for a camera that does not come back.
        """
        try:
            pixels = self._camera.read()
        except CameraLost as lost:
            raise NoCamera(str(lost)) from lost
        self.count += 1
        return Frame(f"{self.name} {self.count}", self.view.apply(pixels), time.time())

    def close(self) -> None:
        """Free the camera."""
        self._camera.close()


def open_stream(
    source: str,
    wanted: Wanted | None = None,
    view: View | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> CameraStream:
    """Open the camera that a person means by `source`; `tell` hears what is to be known of it.

    Raises UsageError, NoCamera, MissingDependency.
    """
    try:
        camera = kind_of(source).open(source, wanted or Wanted())
    except CameraLost as lost:
        raise NoCamera(str(lost)) from lost
    return CameraStream(camera, view or View())
