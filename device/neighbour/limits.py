"""What a person allows a run to take of the machine."""

from __future__ import annotations

from dataclasses import dataclass

# Cores of other programs that count as somebody's work: what a desktop does by itself stays below.
BUSY_CORES = 0.5


@dataclass(frozen=True)
class MachineLimits:
    """None is no limit."""

    max_temp_c: float | None = None
    """Degrees Celsius of the processor."""
    max_load: float | None = None
    """Cores that other programs may keep busy while the run goes on."""
    when_busy: bool = False
    """Whether BUSY_CORES is such a limit."""

    @property
    def most_cores(self) -> float | None:
        """The lower of the two limits of others' work."""
        found = [self.max_load] if self.max_load is not None else []
        return min(found + [BUSY_CORES] * self.when_busy, default=None)


NO_LIMITS = MachineLimits()
