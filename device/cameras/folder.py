"""A folder of pictures that is played as a camera: for demos, tests, and boards without one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

import numpy as np

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.decode import UnreadablePicture
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.cameras.base import Camera, CameraEnded, CameraLost
from mobiletl.device.cameras.pace import Pace
from mobiletl.device.pictures.dataset import files_below

# The short side of what it gives; no camera that a network of 224 pixels looks through needs more.
SHORT_SIDE = 480


class FolderCamera(Camera):
    """Plays the pictures below `folder` in the order of their names, `rate` of them a second.

    A rate of None plays them as fast as they are read. What is no picture is passed over.
    """

    live = False

    def __init__(
        self,
        folder: Path,
        rate: float | None = None,
        again: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Find the files; `again` begins anew at the end. Raises CameraLost for an empty folder."""
        self.name = str(folder)
        self._files = files_below(folder)
        if not self._files:
            raise CameraLost(f"folder {folder} holds no file to play; name a folder of pictures")
        self._again, self._pace = again, Pace(rate, clock, wait)
        self._next, self._found = 0, False

    def read(self) -> Pixels:
        """Return the next picture, when its time has come."""
        while True:
            if self._next == len(self._files):
                # A second round of a folder without pictures would never end.
                if not self._again or not self._found:
                    raise CameraEnded(f"all of {self.name} is played")
                self._next = 0
            path = self._files[self._next]
            self._next += 1
            try:
                image = Frame(str(path), path).decode(SHORT_SIDE)
            except UnreadablePicture:
                continue
            self._found = True
            self._pace.keep()
            return np.array(image, np.uint8)

    def close(self) -> None:
        """Nothing is held."""
