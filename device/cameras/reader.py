"""A thread that opens one camera and reads it, so that nobody waits for a camera that hangs.

Of a live camera it keeps the newest frame only: drivers and networks buffer frames, and a buffer
that is not emptied shows the past. A camera that waits for its reader is handed over once it is
open, and is then read without this thread.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from typing import Callable, NamedTuple

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.cameras.base import Camera
from mobiletl.device.cameras.warmup import warm_up

# A frame that had waited this long when somebody asked for one is of the past.
STALE_S = 0.5
# So long after it was last asked, the thread passes over frames without decoding them.
IDLE_S = 1.0
# How long closing waits for a reading that has begun.
CLOSING_S = 2.0


class Taken(NamedTuple):
    """A frame and when it came, in seconds since 1970."""

    pixels: Pixels
    time_s: float


class Reader:
    """One connection to a camera, from opening to closing; another needs another reader."""

    def __init__(self, open_camera: Callable[[], Camera], lock_exposure: bool) -> None:
        """Begin to open the camera; a live one is also warmed up before it counts as open."""
        self._open, self._lock_exposure = open_camera, lock_exposure
        self._changed = threading.Condition()
        self._closing = False
        self._newest: Taken | None = None
        self._came = self._asked = time.monotonic()
        self.camera: Camera | None = None
        """The open camera; None until it is open."""
        self.failure: Exception | None = None
        """What ended the thread."""
        self.locked = True
        """False where the exposure should be locked and cannot be."""
        self.dropped = 0
        """Frames that nobody took."""
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        _readers.add(self)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the thread is at work, or stuck in the camera's library."""
        return self._thread.is_alive()

    def wait(self, seconds: float) -> None:
        """Return when something has happened, at the latest after `seconds`."""
        with self._changed:
            self._asked = time.monotonic()
            if self._newest is None and self.failure is None:
                self._changed.wait(seconds)

    def take(self, since: float) -> Taken | None:
        """Return the newest frame, once; raises what ended the thread.

        `since` is when somebody began to ask, by the monotonic clock: frames that came long before
        are of the past.
        """
        with self._changed:
            self._asked = time.monotonic()
            taken, self._newest = self._newest, None
            if taken is not None and since - self._came > STALE_S:
                self.dropped += 1
                taken = None
            if taken is None and self.failure is not None:
                raise self.failure
            return taken

    def leave(self) -> None:
        """Ask the thread to close the camera when its reading returns; wait for nothing."""
        self._closing = True

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, at most so long."""
        self._thread.join(max(0.0, seconds))

    def close(self) -> None:
        """Close the camera; a reading that hangs is waited for a while, then left to itself."""
        self.leave()
        self.join(CLOSING_S)
        if self.camera is not None and not self.camera.live:
            self.camera.close()

    def _run(self) -> None:
        try:
            camera = self._open()
            if not camera.live and not self._closing:
                self._opened(camera)
                return
            with camera:
                if not self._closing:
                    self._play(camera)
        except Exception as error:  # noqa: BLE001 - `take` raises it in the thread that reads
            with self._changed:
                self.failure = error
                self._changed.notify_all()

    def _play(self, camera: Camera) -> None:
        warm_up(camera)
        if self._lock_exposure:
            self.locked = camera.lock_exposure()
        self._opened(camera)
        while not self._closing:
            if time.monotonic() - self._asked > IDLE_S:
                camera.skip()
                self.dropped += 1
                continue
            pixels = camera.read()
            with self._changed:
                self.dropped += self._newest is not None
                self._newest = Taken(pixels, time.time())
                self._came = time.monotonic()
                self._changed.notify_all()

    def _opened(self, camera: Camera) -> None:
        with self._changed:
            self.camera = camera
            self._asked = time.monotonic()
            self._changed.notify_all()


_readers: weakref.WeakSet[Reader] = weakref.WeakSet()


@atexit.register
def _leave_all() -> None:
    """Let threads end before the interpreter does.

    A thread that comes back from OpenCV while Python shuts down takes the whole process with it.
    """
    for reader in list(_readers):
        reader.leave()
    until = time.monotonic() + CLOSING_S
    for reader in list(_readers):
        reader.join(until - time.monotonic())
