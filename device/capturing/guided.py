"""Class by class: a person is told what to show; each class begins at a key or a countdown."""

from __future__ import annotations

import time
from typing import Callable

from mobiletl.device.cameras.base import CameraEnded
from mobiletl.device.capturing.keys import Keys
from mobiletl.device.capturing.recorder import Recorder
from mobiletl.device.capturing.showing import Showing, counts_line, judged, pictures

COUNTDOWN_S = 3
# Recording that keeps nothing for so long has no use: nothing moves, or all is blurred.
PATIENCE_S = 60.0
# After so long a person is told why.
HINT_S = 5.0


class Guided:
    """Records until each class has `goal` pictures, in the order of the recorder's classes.

    Without `countdown`, and where there is a terminal, a class begins with the space bar; `s` goes
    on to the next class, `q` ends.
    """

    def __init__(
        self,
        recorder: Recorder,
        keys: Keys,
        goal: int,
        showing: Showing,
        countdown: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet."""
        self._recorder, self._keys, self._goal = recorder, keys, goal
        self._showing, self._clock = showing, clock
        self._countdown = countdown or not keys.there
        self._over = False

    def run(self, seconds: float | None = None) -> bool:
        """Go through all classes; `seconds` is the most for each. False if a person has ended it.

        The camera's end ends it as well; raises what else Recorder.record raises.
        """
        counts = self._recorder.counts
        for row, name in enumerate(counts):
            if counts[name] >= self._goal:
                self._showing.note(f"{name} has {pictures(counts[name])} already")
                continue
            try:
                if self._begin(name, f"class {row + 1} of {len(counts)}, {name}"):
                    self._record(name, seconds)
            except CameraEnded as ended:
                self._showing.note(str(ended))
                return True
            finally:
                self._showing.note(f"{name}: {counts[name]} of {self._goal} pictures")
            if self._over:
                return False
        return True

    def _begin(self, name: str, title: str) -> bool:
        """Wait for the word to begin; False where the class is skipped."""
        if not self._recorder.stream.live:
            return True  # a file waits by itself
        if self._countdown:
            self._showing.note(f"{title}: show it to the camera")
            for left in range(COUNTDOWN_S, 0, -1):
                self._showing.live(f"{name} in {left}")
                until = self._clock() + 1
                while self._clock() < until:
                    self._recorder.watch()
            return True
        self._showing.note(f"{title}: show it, then press space; s skips it, q ends")
        while True:
            key = self._key()
            if key == " ":
                return True
            if self._over or key == "s":
                return False
            self._recorder.watch()

    def _record(self, name: str, seconds: float | None) -> None:
        recorder, began = self._recorder, self._clock()
        kept_at = hinted_at = began
        while recorder.counts[name] < self._goal:
            now = self._clock()
            if seconds is not None and now - began >= seconds:
                return
            if self._key() == "s" or self._over:
                return
            judgement = recorder.record(name)
            if judgement.kept:
                kept_at = hinted_at = now
            elif now - kept_at > PATIENCE_S:
                self._showing.note(f"nothing was kept for {PATIENCE_S:g} seconds")
                return
            elif now - hinted_at > HINT_S:
                self._showing.note(f"{name}: {judged(judgement)}")
                hinted_at = now
            line = counts_line(recorder.counts, self._goal)
            self._showing.live(f"{line}  {name}: {judged(judgement)}")

    def _key(self) -> str:
        """Return the newest key; q ends all."""
        keys = self._keys.pressed()
        self._over = self._over or "q" in keys
        return keys[-1:]
