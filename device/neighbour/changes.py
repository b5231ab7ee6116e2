"""What a run that pauses says of it: one line when it begins to, and one when it is over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

HEAT, LOAD = "temperature", "load"


@dataclass(frozen=True)
class Paused:
    """From here on the run pauses: between steps because of heat, altogether because of others."""

    reason: str
    """HEAT or LOAD."""
    found: float
    """Degrees Celsius, or cores that other programs keep busy."""
    limit: float
    text: str
    """The same as a sentence."""

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return asdict(self)


@dataclass(frozen=True)
class Continued:
    """It pauses no more, for this reason."""

    reason: str
    seconds: float
    """How long it lasted."""
    share: float
    """The share of this time in which the run worked."""
    text: str

    def document(self) -> dict[str, Any]:
        """Return what a line of JSON says of it."""
        return asdict(self)


@dataclass(frozen=True)
class Stay:
    """What a call has seen of the machine."""

    paused_s: float = 0.0
    highest_c: float | None = None
    """None where nobody asked for it."""
    reported: tuple[str, ...] = ()
    """What the firmware has reported meanwhile."""

    def document(self) -> dict[str, Any]:
        """Return what JSON says of it."""
        return {
            "paused_seconds": self.paused_s,
            "highest_temperature": self.highest_c,
            "firmware_reported": list(self.reported),
        }


NO_STAY = Stay()
