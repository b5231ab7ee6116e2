"""How much of the time a run may work so that the processor stays below a temperature.

The share falls along a line from all of the time, 5 degrees below the limit, to none at the limit.
It is taken from what the sensor says right after some work, which is the hottest moment: a die
cools by several degrees within a second of rest, and its board over minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from mobiletl.device.errors import UsageError
from mobiletl.device.neighbour.changes import HEAT, Continued, Paused
from mobiletl.device.neighbour.thermal import hottest, processor_zones, zones_text

BAND_C = 5.0
# It is over once the temperature has stayed so much below the band, for so long.
MARGIN_C, CALM_S = 2.0, 30.0
# At the limit the run rests three times as long as it worked, and until it is below the limit.
LEAST_SHARE = 0.25
# A sensor that is switched off for a moment says nothing; after so many looks it is gone.
MOST_FAILURES = 3


class Heat:
    """Follows the processor's temperature; `limit` is in degrees Celsius."""

    def __init__(self, limit: float, root: Path, clock: Callable[[], float]) -> None:
        """Look for the sensor; raises UsageError where there is none that says a temperature."""
        self.limit = limit
        self._clock = clock
        self._zones = processor_zones(root)
        found = hottest(self._zones)
        if found is None:
            raise UsageError(
                f"a limit of {limit:g} degrees needs the processor's temperature, and no zone in "
                f"/sys/class/thermal says it: found {zones_text(root)}, expected one like "
                "cpu-thermal that says thousandths of a degree; leave --max-temp out"
            )
        self.degrees, self.zone = found
        self.highest = self.degrees
        self._failures = 0
        self._since: float | None = None
        self._calm_since = 0.0
        self._waited = 0.0

    @property
    def lost(self) -> bool:
        """Whether the sensor has been silent for too long."""
        return self._failures >= MOST_FAILURES

    def look(self) -> None:
        """Read the sensor; where it says nothing, what it said last counts."""
        found = hottest(self._zones)
        if found is None:
            self._failures += 1
            return
        self._failures = 0
        self.degrees, self.zone = found
        self.highest = max(self.highest, self.degrees)

    def share(self) -> float:
        """Return the share of the time to work in, 0 to 1."""
        return min(max((self.limit - self.degrees) / BAND_C, 0.0), 1.0)

    def pause(self, worked_s: float) -> float:
        """Return how long to rest after so many seconds of work."""
        share = max(self.share(), LEAST_SHARE)
        return worked_s * (1 - share) / share

    def waited(self, seconds: float) -> None:
        """Note a rest, for what is said at the end."""
        self._waited += seconds

    def change(self) -> Paused | Continued | None:
        """Return what there is to say after a look that followed work."""
        now, calm = self._clock(), self.degrees <= self.limit - BAND_C - MARGIN_C
        if not calm:
            self._calm_since = now
        if self._since is None and self.share() < 1.0:
            self._since, self._waited = now, 0.0
            return Paused(HEAT, self.degrees, self.limit, self._too_hot())
        if self._since is not None and calm and now - self._calm_since >= CALM_S:
            return self.over()
        return None

    def over(self) -> Continued | None:
        """End it, whatever the temperature is; None where nothing was said before."""
        if self._since is None:
            return None
        seconds = self._clock() - self._since
        self._since = None
        share = 1 - self._waited / seconds if seconds > 0 else 1.0
        share = min(max(share, 0.0), 1.0)
        text = (
            f"the processor has {self.degrees:.0f} degrees C again: the run works all of the time, "
            f"after {seconds:.0f} s in which it worked {share:.0%}"
        )
        return Continued(HEAT, seconds, share, text)

    def _too_hot(self) -> str:
        return (
            f"the processor has {self.degrees:.1f} degrees C ({self.zone}), near the limit of "
            f"{self.limit:g}: the run pauses between steps"
        )
