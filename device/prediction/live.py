"""One camera's frames through the network, one answer each, until something ends it.

What is done with the answers is the business of those who hear them (`device/announcing/`).
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np

from mobiletl.device.bundle.closing import Closing
from mobiletl.device.cameras.base import CameraEnded
from mobiletl.device.heads.softmax import Doubles
from mobiletl.device.prediction.looking import Looks
from mobiletl.device.prediction.predictor import Predictor, Verdict
from mobiletl.device.prediction.smoothing import Smoother

# How often the request to stop is looked at while no frame comes.
PATIENCE_S = 0.1
# Frames per second are an average that forgets as fast.
RATE_TIME_CONSTANT_S = 2.0


@dataclass(frozen=True)
class Answer:
    """What is known after one frame; `probabilities` and what follows from them are smoothed."""

    frame: int
    """Its number, counted from 1."""
    time_s: float
    """When the camera gave it, in seconds since 1970."""
    class_names: tuple[str, ...]
    probabilities: Doubles
    """f64[K], in the order of `class_names`; of the classes, given that it is one of them."""
    outcome: int | None
    """The announced class, None for unknown."""
    unknown_share: float
    """The share of the last frames that were of no class, 0 to 1."""
    changed: bool
    """Whether something else is announced than after the frame before; true for the first."""
    frames_per_s: float
    verdict: Verdict
    """The frame by itself."""

    @property
    def unknown(self) -> bool:
        """Whether it is announced that nothing known is seen."""
        return self.outcome is None

    @property
    def label(self) -> str:
        """The announced class; where nothing known is seen, the class that it looks most like."""
        return self.class_names[self._place]

    @property
    def probability(self) -> float:
        """The label's share, 0 to 1."""
        return float(self.probabilities[self._place])

    @property
    def _place(self) -> int:
        return int(self.probabilities.argmax()) if self.outcome is None else self.outcome


class Hearer(Closing):
    """Hears every answer until it is closed. To add one: a class with `hear` and `close`, and where
    the command makes it.

    `hear` is called in the thread that runs the network: what takes long in there costs frames.
    """

    @abstractmethod
    def hear(self, answer: Answer) -> None:
        """Take note of `answer`; what a hearer does not care for it ignores."""


@dataclass(frozen=True)
class Ends:
    """After what the frames end by themselves; None for never."""

    frames: int | None = None
    seconds: float | None = None


@dataclass
class Tally:
    """What a live prediction came to. Times are in seconds."""

    frames: int = 0
    changes: int = 0
    """Announcements after the first."""
    seconds: float = 0.0
    network_s: float = 0.0
    """How much of `seconds` the network took; of two frames at once, half of what each took."""
    waited_s: float = 0.0
    """How much of it was waiting for frames to be read and prepared, likewise."""

    @property
    def frames_per_s(self) -> float:
        """Over the whole time."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def other_share(self) -> float:
        """The share of a frame's time that is not the network, 0 to 1."""
        return 1 - self.network_s / self.seconds if self.seconds else 0.0


class Live:
    """Runs the network on frames and tells the hearers; `tally` stays, however it ends."""

    def __init__(
        self,
        predictor: Predictor,
        smoother: Smoother,
        hearers: Sequence[Hearer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the graphs, so that the first frame is as quick as the others."""
        self._predictor, self._smoother = predictor, smoother
        self._hearers, self._clock = tuple(hearers), clock
        self._rate = Rate()
        self.tally = Tally()
        side = predictor.input.resolution
        predictor.look(np.zeros((1, 3, side, side), np.float32))

    def run(self, frames: Looks, ends: Ends, stopped: Callable[[], bool]) -> None:
        """Answer frames until they end, one of `ends` comes, or `stopped`.

        Raises what reading them raises, NoCamera for one.
        """
        began = self._clock()
        tally = self.tally
        try:
            while not stopped() and not self._over(ends, began):
                looked = frames.next(PATIENCE_S)
                if looked is None:
                    continue
                tally.waited_s += looked.waited_s
                tally.network_s += looked.network_s
                self._tell(looked.time_s, looked.verdict, self._clock())
        except CameraEnded:
            return
        finally:
            tally.seconds = self._clock() - began

    def _over(self, ends: Ends, began: float) -> bool:
        return (ends.frames is not None and self.tally.frames >= ends.frames) or (
            ends.seconds is not None and self._clock() - began >= ends.seconds
        )

    def _tell(self, time_s: float, verdict: Verdict, now: float) -> None:
        smoothed = self._smoother.see(verdict.probabilities, verdict.unknown, time_s)
        self.tally.changes += smoothed.changed and self.tally.frames > 0
        self.tally.frames += 1
        answer = Answer(
            self.tally.frames,
            time_s,
            self._predictor.class_names,
            smoothed.probabilities,
            smoothed.outcome,
            smoothed.unknown_share,
            smoothed.changed,
            self._rate.after(now),
            verdict,
        )
        for hearer in self._hearers:
            hearer.hear(answer)


class Rate:
    """Frames per second of the last seconds: 1 / an average interval that forgets."""

    def __init__(self) -> None:
        """No frame came yet."""
        self._last: float | None = None
        self._interval = 0.0

    def after(self, now: float) -> float:
        """Count a frame at `now`; returns the rate, 0 after the first."""
        if self._last is None:
            self._last = now
            return 0.0
        interval, self._last = now - self._last, now
        if not self._interval:
            self._interval = interval
        weight = -math.expm1(-interval / RATE_TIME_CONSTANT_S)
        self._interval += weight * (interval - self._interval)
        return 1 / self._interval if self._interval > 0 else 0.0
