"""A person at the terminal: number keys choose a class, the space bar held down records."""

from __future__ import annotations

import time
from typing import Callable

from mobiletl.device.cameras.base import CameraEnded
from mobiletl.device.capturing.keys import Hold, Keys
from mobiletl.device.capturing.recorder import Recorder
from mobiletl.device.capturing.selection import Judgement
from mobiletl.device.capturing.showing import Showing, counts_line, judged

# A file waits while nobody records.
IDLE_S = 0.03


class Attended:
    """One sitting; `goal` is how many pictures each class is to have, None for no end."""

    def __init__(
        self,
        recorder: Recorder,
        keys: Keys,
        goal: int | None,
        showing: Showing,
        stop: object = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the first class; `stop` is true once it is to end, as a StopFlag is."""
        self._recorder, self._keys, self._goal = recorder, keys, goal
        self._showing, self._clock, self._stop = showing, clock, stop
        self._names = list(recorder.counts)
        self._chosen, self._hold, self._over = 0, Hold(), False

    def run(self, seconds: float | None = None) -> None:
        """Go on until q, the goal of all classes, the camera's end, or so many seconds.

        Raises what Recorder.record raises, but CameraEnded.
        """
        for row, name in enumerate(self._names[:9]):
            self._showing.note(f"  {row + 1}  {name}")
        self._showing.note(
            "number keys or tab choose a class, hold the space bar to record, q ends"
        )
        until = None if seconds is None else self._clock() + seconds
        while not (self._over or self._stop or self._all_done()):
            if until is not None and self._clock() >= until:
                return
            self._hear()
            try:
                self._frame()
            except CameraEnded as ended:
                self._showing.note(str(ended))
                return
            if not self._keys.there:  # the terminal is gone
                return

    def _hear(self) -> None:
        for key in self._keys.pressed():
            if key in "qQ":
                self._over = True
            elif key == " ":
                self._hold.press(self._clock())
            elif key == "\t":
                self._choose((self._chosen + 1) % len(self._names))
            elif key in "123456789" and int(key) <= len(self._names):
                self._choose(int(key) - 1)

    def _choose(self, row: int) -> None:
        self._chosen = row
        self._hold.release()

    def _frame(self) -> None:
        """Read a frame, and record it if the space bar is held and the class wants more."""
        name, recorder = self._names[self._chosen], self._recorder
        judgement = None
        if self._hold.held(self._clock()) and not self._done(name):
            judgement = recorder.record(name)
            if self._done(name):
                self._showing.note(f"{name} has its {recorder.counts[name]} pictures")
                self._hold.release()
        elif recorder.stream.live:
            recorder.watch()
        else:
            time.sleep(IDLE_S)
        self._show(name, judgement)

    def _show(self, name: str, judgement: Judgement | None) -> None:
        if judgement is not None:
            state = f"recording {name}: {judged(judgement)}"
        elif self._done(name):
            state = f"{name} is complete, choose another class"
        else:
            state = f"hold space to record {name}"
        self._showing.live(f"{counts_line(self._recorder.counts, self._goal)}  {state}")

    def _done(self, name: str) -> bool:
        return self._goal is not None and self._recorder.counts[name] >= self._goal

    def _all_done(self) -> bool:
        return all(self._done(name) for name in self._names)
