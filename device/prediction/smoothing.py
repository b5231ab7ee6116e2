"""Answers over time: an average that forgets in seconds, and changes that have to hold.

Single frames are wrong now and then: a hand passes, the picture is blurred, a class is seen from
its worst side. What is announced follows an exponential average of the frames' answers,

    average <- average + (1 - exp(-dt / TIME_CONSTANT_S)) * (answer - average)

whose weights depend on the seconds `dt` between two frames and not on how many frames there are: a
board with 3 frames a second and one with 30 forget equally fast. The likeliest outcome of the
average is announced when it has stayed the likeliest for HOLD_S without a break.

"Unknown" is an outcome like the classes. A frame that is of none of them says so with all its
weight; one that is of a class shares its weight out by its probabilities.

Letters: K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mobiletl.device.heads.softmax import Doubles

# Measured by `python -m bench.smoothing` (docs/live.md).
TIME_CONSTANT_S = 0.1
HOLD_S = 0.5


@dataclass(frozen=True)
class Smoothed:
    """What is announced after a frame."""

    outcome: int | None
    """The class that is announced, None for unknown."""
    probabilities: Doubles
    """f64[K], the average of the classes' probabilities, given that it is one of them."""
    unknown_share: float
    """The share of frames, by the average's weights, that were of no class; 0 to 1."""
    changed: bool
    """Whether the outcome is another one than after the frame before; true after the first."""


class Smoother:
    """Sees one camera's answers one after another."""

    def __init__(
        self, classes: int, time_constant_s: float = TIME_CONSTANT_S, hold_s: float = HOLD_S
    ) -> None:
        """Nothing is seen yet; a `time_constant_s` of 0 takes every frame by itself."""
        self._time_constant_s, self._hold_s = time_constant_s, hold_s
        self._probabilities = np.zeros(classes, np.float64)
        self._outcomes = np.zeros(classes + 1, np.float64)
        self._announced: int | None = None
        self._candidate = 0
        self._held_s = 0.0
        self._time_s: float | None = None

    def see(self, probabilities: Doubles, unknown: bool, time_s: float) -> Smoothed:
        """Take in a frame's `probabilities` [K] in the order of the classes, seen at `time_s`.

        A clock that is set back counts as no time for the one frame. Raises ValueError for another
        number of classes.
        """
        if probabilities.shape != self._probabilities.shape:
            raise ValueError(f"{len(probabilities)} classes, not {len(self._probabilities)}")
        seconds = 0.0 if self._time_s is None else max(time_s - self._time_s, 0.0)
        weight = self._weight(seconds)
        self._time_s = time_s
        outcomes = np.zeros_like(self._outcomes)
        if unknown:
            outcomes[-1] = 1.0
        else:
            outcomes[:-1] = probabilities
        self._outcomes += weight * (outcomes - self._outcomes)
        self._probabilities += weight * (probabilities - self._probabilities)
        changed = self._decide(int(self._outcomes.argmax()), seconds)
        return Smoothed(
            None if self._announced == len(self._probabilities) else self._announced,
            self._probabilities.copy(),
            float(self._outcomes[-1]),
            changed,
        )

    def _weight(self, seconds: float) -> float:
        if self._time_s is None or self._time_constant_s <= 0:
            return 1.0
        return -math.expm1(-seconds / self._time_constant_s)

    def _decide(self, likeliest: int, seconds: float) -> bool:
        """Announce `likeliest` if it has held; returns whether that is a change."""
        if likeliest == self._candidate:
            self._held_s += seconds
        else:
            self._candidate, self._held_s = likeliest, 0.0
        # The first answer is better at once than never: a run may have one frame.
        held = self._announced is None or self._held_s >= self._hold_s
        if not held or likeliest == self._announced:
            return False
        self._announced = likeliest
        return True
