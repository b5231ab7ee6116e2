"""How long the rest of a run will take, from what its steps and evaluations have taken so far."""

from __future__ import annotations

import time

from mobiletl.device.run.schedule import Schedule

# Share of the newest step in the running mean of a step's duration.
NEWEST = 0.1


class Pace:
    """Times the steps of a run by their ends, so that decoding and saving count, too."""

    def __init__(self, schedule: Schedule) -> None:
        """Nothing is timed yet."""
        self._schedule = schedule
        self._step_ended: float | None = None
        self._step_s: float | None = None
        self._score_s = 0.0

    def step(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        if self._step_ended is not None:
            took = now - self._step_ended
            mean = took if self._step_s is None else self._step_s
            self._step_s = mean + NEWEST * (took - mean)
        self._step_ended = now

    def interrupted(self) -> None:
        """Something that is no step goes on; the next step is not timed from the last one."""
        self._step_ended = None

    def scored(self, seconds: float) -> None:
        """An evaluation has taken `seconds`."""
        self.interrupted()
        self._score_s = seconds

    def seconds_left(self, epoch: int, step: int) -> float | None:
        """Return how long the run still takes at `step` (of the whole run) of `epoch`."""
        if self._step_s is None:
            return None
        evaluations = self._schedule.epochs - epoch + 1
        return (self._schedule.steps - step) * self._step_s + evaluations * self._score_s
