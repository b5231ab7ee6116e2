"""How long a run will take, timed on its own pictures before it trains.

A batch goes through the frozen layers, through two steps and through a prediction. The state is the
saved one again afterwards, to the bit. Letters: N pictures in a batch, C x h x w a feature map.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.errors import UsageError
from mobiletl.device.features.parts import Pictures
from mobiletl.device.run.duration import duration
from mobiletl.device.run.schedule import Schedule
from mobiletl.device.sessions.session import Session

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


class TooLong(UsageError):
    """A run is expected to take longer than a person allows."""


@dataclass(frozen=True)
class Work:
    """What there is to do: `passes` of pictures through the frozen layers that are left of the run,
    and `validated` pictures after each epoch, whose maps are kept.
    """

    schedule: Schedule
    passes: int
    validated: int


@dataclass(frozen=True)
class Timing:
    """Seconds that one picture, step or prediction takes."""

    a_pass: float
    a_step: float
    a_prediction: float

    def seconds(self, work: Work, epochs: int | None = None) -> float:
        """Return how long `work` takes, or as much of it as so many epochs are."""
        schedule = work.schedule
        share = 1.0 if epochs is None else epochs / schedule.epochs
        steps = schedule.steps * self.a_step
        predictions = schedule.epochs * work.validated * self.a_prediction
        return share * (work.passes * self.a_pass + steps + predictions)


def time_batch(session: Session, pictures: Pictures, schedule: Schedule, buffer: Floats) -> Timing:
    """Time the first batch of the run; the state of `session` is another one afterwards.

    `buffer` is f32[N,C,h,w]. The first call of a function also loads it, so the second counts.
    """
    rows = schedule.rows(1)[0]
    began = time.monotonic()
    before = pictures.source.computed
    written = pictures.source.fill(rows, 1, buffer)
    # Each picture may have been put through for more epochs than this one.
    a_pass = (time.monotonic() - began) / max(pictures.source.computed - before, len(rows), 1)
    size = session.batch or len(written)
    if not written:
        return Timing(a_pass, 0.0, 0.0)
    labels = pictures.labels[[written[place % len(written)] for place in range(size)]]
    for place in range(len(written), size):
        buffer[place] = buffer[place % len(written)]
    for _ in range(2):
        began = time.monotonic()
        session.train_step(buffer[:size], labels, 0.0)
        a_step = time.monotonic() - began
    for _ in range(2):
        began = time.monotonic()
        session.predict(buffer[:size])
        a_prediction = (time.monotonic() - began) / size
    return Timing(a_pass, a_step, a_prediction)


def check_time(limit: float, timing: Timing, work: Work) -> None:
    """Raise TooLong if `work` is expected to take more than `limit` seconds.

    The line names the number of epochs that fit.
    """
    expected = timing.seconds(work)
    if expected <= limit:
        return
    fitting = [n for n in range(work.schedule.epochs, 0, -1) if timing.seconds(work, n) <= limit]
    way = (
        f"--epochs {fitting[0]} would take {duration(timing.seconds(work, fitting[0]))}"
        if fitting
        else "mobiletl teach learns them in one look"
    )
    raise TooLong(
        f"the run is expected to take {duration(expected)}, more than the {duration(limit)} of "
        f"--max-time; {way}"
    )


def parse_seconds(text: str) -> float:
    """Return the seconds that `text` names, such as 10m, 90s, 1.5h or 600.

    Raises ValueError, as argparse expects of a type.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in UNITS:
        raise ValueError(text)
    return float(found[1]) * UNITS[found[2]]
