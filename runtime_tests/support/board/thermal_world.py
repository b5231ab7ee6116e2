"""A machine whose processor warms up by the work that is done on it, in files as Linux has them.

The clock is a world's own, so that hours pass in seconds. The temperature above that of the room is
a sum of parts, each of which follows the work of the moment with its own delay: one part is a
first-order model, a quick and a slow one are a die on a heat sink.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

HERTZ = 100


@dataclass
class Part:
    """Warms by `gain` degrees under full work, by all but 1/e of it within `seconds`."""

    gain: float
    seconds: float
    degrees: float = 0.0

    def pass_time(self, seconds: float, duty: float) -> None:
        self.degrees += (self.gain * duty - self.degrees) * -math.expm1(-seconds / self.seconds)


@dataclass
class World:
    """`root` gets sys/class/thermal and proc/stat; `others` is how many cores others work on."""

    root: Path
    parts: list[Part]
    room: float = 25.0
    others: float = 0.0
    cores: int = 4
    zone: str = "cpu-thermal"
    now: float = 100.0
    worked: float = 0.0
    highest: float = -math.inf
    _own: float = 0.0
    _busy: float = 0.0
    _written_at: float = 0.0

    def __post_init__(self) -> None:
        self.place = self.root / "sys/class/thermal/thermal_zone0"
        self.place.mkdir(parents=True)
        (self.root / "proc").mkdir()
        (self.place / "type").write_text(f"{self.zone}\n")
        (self.place / "temp").touch()
        (self.root / "proc/stat").touch()
        self._write()

    @property
    def degrees(self) -> float:
        return self.room + sum(part.degrees for part in self.parts)

    def clock(self) -> float:
        return self.now

    def own(self) -> float:
        """The processor time of the process that works here."""
        return self._own

    def work(self, seconds: float) -> None:
        """The process works on all cores that others leave."""
        self.worked += seconds
        self._pass(seconds, 1.0)

    def sleep(self, seconds: float) -> None:
        self._pass(seconds, 0.0)

    def _due(self, duty: float) -> bool:
        """Files are written after work, and while nothing is done often enough."""
        return duty > 0 or self.now - self._written_at >= 0.5

    def _pass(self, seconds: float, duty: float) -> None:
        for part in self.parts:
            part.pass_time(seconds, duty)
        self.now += seconds
        # Work only warms, so that its end is the hottest moment.
        self.highest = max(self.highest, self.degrees)
        own = duty * seconds * max(0.0, self.cores - self.others)
        self._own += own
        self._busy += own + self.others * seconds
        if self._due(duty):
            self._write()
            self._written_at = self.now

    def _write(self) -> None:
        _overwrite(self.place / "temp", f"{round(self.degrees * 1000):>8}\n")
        ticks = round(self._busy * HERTZ)
        idle = round(self.now * self.cores * HERTZ) - ticks
        _overwrite(self.root / "proc/stat", f"cpu {ticks:>12} 0 0 {idle:>12} 0 0 0 0 0 0\n")


def _overwrite(path: Path, text: str) -> None:
    """Write as many bytes as are there: a file that is cut first goes to the disk at once."""
    with path.open("r+") as file:
        file.write(text)
