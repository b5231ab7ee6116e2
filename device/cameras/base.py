"""What every camera is: opened once, asked for its next picture, closed.

A camera gives plain pictures and says why it cannot. Waiting, warming up, connecting again and the
view are the same for all of them and stand in `stream.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.closing import Closing


@dataclass(frozen=True)
class Wanted:
    """What a camera is asked for; None leaves the choice to the camera.

    Sizes are in pixels, `rate` is in frames per second.
    """

    width: int | None = None
    height: int | None = None
    rate: float | None = None
    lock_exposure: bool = False
    """Keep the exposure and white balance that the camera has found when it is warm."""


class CameraLost(Exception):
    """The camera gives nothing any more, but may do so again: it is opened anew.

    The text says on one line what was found and what to try.
    """


class CameraEnded(Exception):
    """There will be no other frame: a video is over, a folder was played."""


class CameraStopped(CameraEnded):
    """There will be no other frame because the caller's stop is requested."""


class Camera(Closing):
    """One open camera; the table in `table.py` opens them."""

    name: str
    """What messages call it; holds no password of an address."""
    live: bool
    """Whether frames that nobody reads are gone; a file waits for its reader."""

    @abstractmethod
    def read(self) -> Pixels:
        """Return the next frame as RGB uint8[H,W,3], which the caller may keep.

        Raises CameraLost and CameraEnded.
        """

    def skip(self) -> None:
        """Pass over the next frame; cheaper than `read` where a camera need not decode it."""
        self.read()

    def lock_exposure(self) -> bool:
        """Keep exposure and white balance as they are now; False where it cannot be done."""
        return False
