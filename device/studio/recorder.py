"""Frames of the camera that are added to a class while a person holds a button.

Frames are chosen as `mobiletl capture` chooses them. Of those that are blurred, or like a kept one
of their class, one a second is added all the same: a person who holds the button sees that it
works, and a class of one still scene does not fill up with copies of it. Black ones never are.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.decode import UnreadablePicture, decode
from mobiletl.device.capturing.looks import SHARP_SIDE, look_at, small_of
from mobiletl.device.capturing.selection import Rules, Selection
from mobiletl.device.errors import MobileTLError
from mobiletl.device.printable import printable
from mobiletl.device.studio.feed import Feed
from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.uploads import Inbox

# The page says every 500 ms that the button is still held. A page that is gone says nothing.
SILENCE = 2.0
MOST_A_SECOND = 10
SECONDS_BETWEEN_POOR = 1.0
# Pictures of a class, the newest, that the first frame of a recording is compared with.
COMPARED = 100
_CLOSING = 3.0

logger = logging.getLogger(__name__)


class Recorder(Closing):
    """A context manager with a thread of its own; one class is recorded at a time."""

    def __init__(self, inbox: Inbox, feed: Feed) -> None:
        """Record nothing yet."""
        self._inbox, self._feed = inbox, feed
        self._changed = threading.Condition()
        self._class: str | None = None
        self._until = 0.0
        self._closed = False
        self._rules = Rules()
        self._selection, self._selected, self._kept_at = Selection(), "", 0.0
        self._black = False
        self.problem = ""
        """Why the last recording ended early, one line."""
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def recording(self) -> str | None:
        """The class that frames are added to now."""
        name = self._class
        return name if name is not None and time.monotonic() < self._until else None

    @property
    def note(self) -> str:
        """What a person who records should know, a few words or none."""
        return "black pictures are left out" if self._black and self.recording is not None else ""

    def hold(self, class_name: str) -> None:
        """Record for `class_name` for the next seconds; raises Refused."""
        self._inbox.album.check_class(class_name)
        if self._feed.source is None:
            raise Refused(409, "there is no camera; start the studio with --camera, or add files")
        if self._feed.newest() is None:
            said = self._feed.said()
            raise Refused(409, f"the camera gives no picture now{f' ({said})' if said else ''}")
        with self._changed:
            if self.recording not in (None, class_name):
                raise Refused(409, f"somebody records '{self._class}' now; wait until they let go")
            if self.problem and self.recording is None and self._class == class_name:
                # The page repeats itself while the button is held; say once why it ended.
                problem, self.problem, self._class = self.problem, "", None
                raise Refused(507, problem)
            self.problem = ""
            self._class, self._until = class_name, time.monotonic() + SILENCE
            self._changed.notify_all()

    def release(self, class_name: str) -> None:
        """End the recording of this class."""
        with self._changed:
            if self._class == class_name:
                self._until = 0.0

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed, self._until = True, 0.0
            self._changed.notify_all()
        self._thread.join(_CLOSING)

    def _run(self) -> None:
        number = 0
        while not self._closed:
            name = self.recording
            if name is None:
                self._selected, self._black = "", False
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self.recording is not None, 1.0)
                continue
            began = time.monotonic()
            shot = self._feed.wait_newer(number, 0.5)
            if shot is None:
                continue
            number = shot.number
            try:
                self._add(shot.pixels, name)
            except (Refused, MobileTLError) as error:
                self._end(printable(str(error)))
            except Exception:
                logger.exception("a frame could not be kept")
                self._end("a frame could not be kept; see the server's log")
            time.sleep(max(0.0, began + 1 / MOST_A_SECOND - time.monotonic()))

    def _add(self, pixels: Pixels, name: str) -> None:
        """Add a frame to a class, if it is worth it."""
        if name != self._selected:
            self._selection, self._selected = self._kept_of(name), name
        look = look_at(pixels)
        judgement = self._selection.judge(look, self._rules)
        self._black = judgement.black
        now = time.monotonic()
        due = not judgement.black and now - self._kept_at >= SECONDS_BETWEEN_POOR
        # A film that is played again has the very same frames.
        if (judgement.kept or due) and self._inbox.take_frame(pixels, name):
            self._kept_at = now
            if judgement.new:
                self._selection.add(look.small)

    def _kept_of(self, name: str) -> Selection:
        """Return the newest pictures of a class, to compare with."""
        kept, _ = self._inbox.album.listed(name, 0, COMPARED)
        found = []
        for one in kept:
            with contextlib.suppress(UnreadablePicture):
                found.append(small_of(decode(one.path, SHARP_SIDE)))
        return Selection(found)

    def _end(self, problem: str) -> None:
        with self._changed:
            self._until, self.problem = 0.0, problem
