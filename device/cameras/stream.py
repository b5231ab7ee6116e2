"""Frames of one camera, one after another, through whatever happens to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.view import View
from mobiletl.device.cameras.addresses import shown_source
from mobiletl.device.cameras.base import Camera, CameraLost, CameraStopped, Wanted
from mobiletl.device.cameras.reader import Reader, Taken
from mobiletl.device.cameras.table import kind_of
from mobiletl.device.cameras.warmup import BLACK, brightness
from mobiletl.device.errors import NoCamera

# How often a waiting reader looks whether it is to stop.
SLICE_S = 0.1
# So many black frames one after another are told.
BLACK_FRAMES = 10


@dataclass(frozen=True)
class Patience:
    """How long a camera is waited for, in seconds."""

    open_s: float = 15.0
    """Until an opened camera gives frames; its warm-up is part of it."""
    frame_s: float = 5.0
    """Until a camera that gives no frame counts as lost."""
    lost_s: float = 60.0
    """Until a lost camera is given up."""
    first_wait_s: float = 0.5
    """Before the first attempt to open it again; each later wait is twice as long."""
    most_wait_s: float = 8.0


class CameraStream(Closing):
    """A context manager; `open_stream` makes one. It belongs to one thread at a time."""

    def __init__(
        self,
        source: str,
        wanted: Wanted,
        view: View,
        tell: Callable[[str], None],
        stop: object,
        patience: Patience,
    ) -> None:
        """Open the camera and wait until it gives frames; see `open_stream`."""
        self.name, self.view = shown_source(source), view
        self.count = 0
        """Frames that were read."""
        self.losses = 0
        """How many times the camera was lost and came back, or did not."""
        self.away = False
        """Whether the camera is lost and being opened again."""
        self._kind, self._source = kind_of(source), source
        self._wanted, self._patience = wanted, patience
        self._tell, self._stop = tell, stop
        self._former_dropped = self._black = 0
        self._told_black, self._lasting = False, ""
        self._reader = self._start()
        try:
            self._camera = self._wait_open()
        except CameraLost as lost:
            self._reader.leave()
            raise NoCamera(str(lost)) from lost
        except BaseException:
            self._reader.leave()
            raise
        self.name = self._camera.name

    @property
    def dropped(self) -> int:
        """Frames of a live camera that came while nobody read; 0 for a file."""
        return self._former_dropped + self._reader.dropped

    @property
    def live(self) -> bool:
        """Whether frames that nobody reads are gone; a file waits for its reader."""
        return self._camera.live

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is odd about the frames now, a sentence each; all of it was told, too."""
        black = self._black_words() if self._black >= BLACK_FRAMES else ""
        return tuple(filter(None, (black, self._lasting)))

    def read(self) -> Frame:
        """Return the next frame in its view, with its time; waits for it.

        Of a live camera that is the newest one, which no former call has returned. Raises
        CameraEnded after the last frame of a file, CameraStopped when the stop is requested, and
        NoCamera for a camera that is lost and does not come back.
        """
        taken = self._live() if self._camera.live else self._waiting()
        self.count += 1
        self._look(taken.pixels)
        return Frame(f"{self.name} {self.count}", self.view.apply(taken.pixels), taken.time_s)

    def close(self) -> None:
        """Free the camera."""
        self._reader.close()

    def _waiting(self) -> Taken:
        self._check_stop()
        try:
            return Taken(self._camera.read(), time.time())
        except CameraLost as lost:
            raise NoCamera(str(lost)) from lost

    def _live(self) -> Taken:
        since = time.monotonic()
        while True:
            self._check_stop()
            try:
                taken = self._reader.take(since)
                if taken is not None:
                    return taken
                if time.monotonic() - since > self._patience.frame_s:
                    raise CameraLost(
                        f"{self.name} has given no frame for {self._patience.frame_s:g} seconds"
                    )
            except CameraLost as lost:
                self._reconnect(lost)
                since = time.monotonic()
            self._reader.wait(SLICE_S)

    def _reconnect(self, lost: CameraLost) -> None:
        """Open the camera anew, however often it takes; raises NoCamera when patience is over."""
        patience, began = self._patience, time.monotonic()
        self.losses += 1
        self.away = True
        self._tell(f"{lost}; it is tried again for {patience.lost_s:g} seconds")
        self._reader.leave()
        reason, wait, tries = str(lost), patience.first_wait_s, 0
        while time.monotonic() - began < patience.lost_s:
            self._pause(min(wait, began + patience.lost_s - time.monotonic()))
            wait = min(2 * wait, patience.most_wait_s)
            # Two threads in one camera's library would get in each other's way.
            if self._reader.running:
                continue
            tries += 1
            self._former_dropped += self._reader.dropped
            self._reader = self._start()
            try:
                self._camera = self._wait_open()
            except (CameraLost, NoCamera) as error:
                self._reader.leave()
                reason = str(error)
            else:
                seconds = time.monotonic() - began
                attempts = "1 attempt" if tries == 1 else f"{tries} attempts"
                self.away = False
                self._tell(
                    f"{self.name} is back after {seconds:.1f} seconds and {attempts}; "
                    f"lost {_times(self.losses)} so far"
                )
                return
        raise NoCamera(
            f"{reason}; the camera was lost after {self.count} frames and did not come back within "
            f"{patience.lost_s:g} seconds"
        ) from lost

    def _start(self) -> Reader:
        return Reader(self._open, self._wanted.lock_exposure)

    def _open(self) -> Camera:
        return self._kind.open(self._source, self._wanted)

    def _wait_open(self) -> Camera:
        until = time.monotonic() + self._patience.open_s
        while self._reader.camera is None:
            self._check_stop()
            if self._reader.failure is not None:
                raise self._reader.failure
            if time.monotonic() > until:
                raise CameraLost(
                    f"{self.name} has given no frame within {self._patience.open_s:g} seconds"
                )
            self._reader.wait(SLICE_S)
        return self._reader.camera

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self._check_stop()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, SLICE_S))

    def _check_stop(self) -> None:
        if self._stop:
            raise CameraStopped(f"{self.name} is no longer read: a stop is requested")

    def _look(self, pixels: Pixels) -> None:
        """Tell once what is odd about the frames."""
        if self.count == 1:
            self._look_at_first(pixels)
        self._black = self._black + 1 if brightness(pixels) < BLACK else 0
        if self._black == BLACK_FRAMES and not self._told_black:
            self._told_black = True
            self._tell(self._black_words())

    def _black_words(self) -> str:
        fix = "; take the cover off the lens, or give it light" if self.live else ""
        return f"the frames of {self.name} are black{fix}"

    def _look_at_first(self, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        asked = (self._wanted.width or width, self._wanted.height or height)
        if asked != (width, height):
            self._lasting = (
                f"{self.name} gives {width} x {height} pixels, not the {asked[0]} x {asked[1]} "
                "that were asked for; it goes on with these"
            )
            self._tell(self._lasting)
        if not self._reader.locked:
            self._tell(f"{self.name} cannot lock its exposure; it goes on without")


def open_stream(
    source: str,
    wanted: Wanted | None = None,
    view: View | None = None,
    tell: Callable[[str], None] = lambda text: None,
    stop: object = None,
    patience: Patience | None = None,
) -> CameraStream:
    """Open the camera that a person means by `source`; `tell` hears what is to be known of it.

    `tell` is called in the thread that reads. `stop` is true once nobody wants frames any more, as
    a StopFlag is after Ctrl-C. Raises UsageError, NoCamera, MissingDependency, CameraStopped.
    """
    return CameraStream(
        source, wanted or Wanted(), view or View(), tell, stop, patience or Patience()
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
