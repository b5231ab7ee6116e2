"""The board's camera, read by a thread of its own, which keeps the newest frame.

A camera that stalls must hold up neither teaching nor the page. The stream connects again by
itself for a while, in which the feed is lost: the picture that was seen last is of the past. Where
the stream gives up, the feed waits and opens it anew, for as long as it runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Callable

import numpy as np

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.view import View
from mobiletl.device.cameras.base import CameraEnded, CameraStopped, Wanted
from mobiletl.device.cameras.stream import CameraStream, open_stream
from mobiletl.device.errors import MobileTLError
from mobiletl.device.printable import one_line, printable
from mobiletl.device.studio.uploads import jpeg

LIVE, LOST, WAITING, PAUSED, NONE = "live", "lost", "waiting", "paused", "none"
# Seconds between attempts to open a camera that is not there.
WAITS = (1.0, 2.0, 4.0, 8.0, 15.0)
# What goes to the page; it is shown smaller than that.
STREAM_SIDE = 640
STREAM_QUALITY = 75
# A folder or a video has no pace of its own.
RATE_OF_FILES = 15.0
RATE_OVER = 3.0
SAID_SECONDS = 15.0
_CLOSING = 3.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame in its view: RGB uint8[H,W,3], counted from 1."""

    number: int
    pixels: Pixels


class Feed(Closing):
    """A context manager; the thread runs from `start` on."""

    def __init__(self, source: str | None, wanted: Wanted, view: View) -> None:
        """Open nothing yet; a source of None is a studio without a camera."""
        self.source, self._wanted, self._view = source, wanted, view
        self.message = ""
        self._state = WAITING if source is not None else NONE
        self._changed = threading.Condition()
        self._newest: Shot | None = None
        self._stream: CameraStream | None = None
        self._remarks: tuple[str, ...] = ()
        self._encoded: tuple[int, bytes] = (0, b"")
        self._encoding = threading.Lock()
        self._on, self._closed, self._held = True, False, ""
        self._pause, self._told_at = 0.0, float("-inf")
        self._times: deque[float] = deque(maxlen=100)
        self._told: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self, told: Callable[[], None] = lambda: None) -> None:
        """Begin to read; `told` is called in the thread of the camera with every frame."""
        self._told = told
        if self.source is not None:
            self._thread.start()

    @property
    def state(self) -> str:
        """One of LIVE, LOST, WAITING, PAUSED, NONE."""
        if self.source is None:
            return NONE
        return self._state if self._on and not self._held else PAUSED

    @property
    def view(self) -> View:
        """What is cut out of each frame."""
        return self._view

    def look(self, view: View) -> None:
        """Cut something else out of the frames from now on."""
        with self._changed:
            self._view = view
            self._changed.notify_all()

    def switch(self, on: bool) -> None:
        """Free the camera, or have it again."""
        with self._changed:
            self._on = on
            self._changed.notify_all()

    def hold(self, why: str) -> None:
        """Free the camera for the reason `why`, which the page shows; an empty one ends that."""
        with self._changed:
            self._held = why
            self._changed.notify_all()

    def slow(self, seconds: float) -> None:
        """Leave so much time between frames; 0 is as fast as the camera gives them."""
        self._pause = seconds

    def said(self) -> str:
        """Return what a person should know of the camera, one line or none."""
        if self._held or not self._on:
            return self._held
        remarks = self._remarks if self.state == LIVE else ()
        return "; ".join(filter(None, (self.message, *remarks)))

    def rate(self) -> float:
        """Return the frames per second of the last seconds."""
        since = time.monotonic() - RATE_OVER
        return sum(at > since for at in list(self._times)) / RATE_OVER

    def newest(self) -> Shot | None:
        """Return the newest frame, if the camera gives any now."""
        return self._newest if self.state == LIVE else None

    def wait_newer(self, number: int, seconds: float) -> Shot | None:
        """Return a frame later than `number`, or None if there was none for so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_newer(number), seconds)
            return self._newest if self._is_newer(number) else None

    def jpeg(self, shot: Shot) -> bytes:
        """Return a frame for the page, encoded once for all who look."""
        with self._encoding:
            if self._encoded[0] != shot.number:
                self._encoded = (shot.number, jpeg(shot.pixels, STREAM_QUALITY, STREAM_SIDE))
            return self._encoded[1]

    def close(self) -> None:
        """Free the camera; one that does not answer is left to the end of the process."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_CLOSING)

    def _is_newer(self, number: int) -> bool:
        return self._newest is not None and self._newest.number > number

    def wants(self) -> bool:
        """Return whether frames are wanted now."""
        return self._on and not self._held and not self._closed

    def _run(self) -> None:
        failures, ended = 0, False
        while not self._closed:
            if not self.wants():
                ended = False
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self.wants(), 1.0)
                continue
            # A film that begins anew is not away in between: a held button goes on.
            self._state = self._state if ended else WAITING
            seen, ended = self._newest.number if self._newest else 0, False
            try:
                ended = self._play()
            except MobileTLError as error:
                self.message = printable(str(error))
            # A driver may raise anything; the studio goes on without a camera.
            except Exception as error:
                logger.exception("the camera failed")
                self.message = f"the camera failed ({printable(one_line(error))})"
            now = self._newest.number if self._newest else 0
            failures = 0 if now > seen else failures + 1
            if self.wants() and failures:
                self._state = WAITING
                self._wait(WAITS[min(failures, len(WAITS)) - 1])

    def _play(self) -> bool:
        """Read frames until the camera is lost or not wanted; return True where it has ended."""
        assert self.source is not None
        with open_stream(
            self.source, self._wanted, self._view, self._tell, _Unwanted(self)
        ) as stream:
            pause = 0.0 if stream.live else 1 / (self._wanted.rate or RATE_OF_FILES)
            self._stream = stream
            try:
                while self.wants():
                    stream.view = self._view
                    began = time.monotonic()
                    self._publish(stream)
                    left = began + max(self._pause, pause) - time.monotonic()
                    if left > 0:
                        self._wait(left)
            # A video or a folder is played again; who stops a camera knows it.
            except (CameraEnded, CameraStopped) as end:
                self.message = ""
                return isinstance(end, CameraEnded)
            finally:
                self._stream = None
        return False

    def _publish(self, stream: CameraStream) -> None:
        frame = stream.read()
        pixels = frame.content
        assert isinstance(pixels, np.ndarray)
        remarks = tuple(map(printable, stream.remarks))
        with self._changed:
            number = self._newest.number + 1 if self._newest else 1
            self._newest = Shot(number, pixels)
            self._state = LIVE
            # What holds as long as it does (the frames are black) is no news besides; other news
            # of a camera that works (it is back) are to be read.
            self._remarks = remarks
            if self.message in remarks or time.monotonic() - self._told_at > SAID_SECONDS:
                self.message = ""
            self._times.append(time.monotonic())
            self._changed.notify_all()
        self._told()

    def _tell(self, text: str) -> None:
        with self._changed:
            self._told_at = time.monotonic()
            self.message = printable(text)
            if self._stream is not None and self._stream.away:
                self._state = LOST

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self.wants(), seconds)


class _Unwanted:
    """True once nobody wants frames any more: what a stream that waits looks at."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __bool__(self) -> bool:
        return not self._feed.wants()
