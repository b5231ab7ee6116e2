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
        self._ahead_s = 0.0
        self._score_s = 0.0

    def step(self, ahead_s: float = 0.0) -> None:
        """A step has ended; `ahead_s` of its seconds went into maps for all epochs to come."""
        now = time.monotonic()
        if self._step_ended is not None:
            took = max(now - self._step_ended - ahead_s, 0.0)
            first = self._step_s is None
            mean, ahead = (took, ahead_s) if first else (self._step_s or 0.0, self._ahead_s)
            self._step_s = mean + NEWEST * (took - mean)
            self._ahead_s = ahead + NEWEST * (ahead_s - ahead)
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
        # What is computed for later epochs is computed in this one.
        ahead_s = (epoch * self._schedule.steps_per_epoch - step) * self._ahead_s
        steps_s = (self._schedule.steps - step) * self._step_s
        return steps_s + ahead_s + evaluations * self._score_s
