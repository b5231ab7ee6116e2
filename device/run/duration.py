"""Times as a person reads them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return minutes:seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
