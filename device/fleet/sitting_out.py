"""Whether a board takes part in a round: it sits out while training would do harm.

Each rule is a function of the board's facts that returns a reason or None. What Linux does not tell
stops nobody: many boards have neither a battery nor a sensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobiletl.device.fleet.board import Board
from mobiletl.device.memory.available import available_bytes
from mobiletl.device.memory.limit import megabytes, needed

_THERMAL = "sys/class/thermal"
_POWER = "sys/class/power_supply"


@dataclass(frozen=True)
class Condition:
    """How a board is; None where its system does not tell."""

    celsius: float | None
    """Of its hottest sensor."""
    discharging: bool | None
    """Whether it lives on a battery now."""
    available_bytes: int | None


def sits_out(board: Board, planned_bytes: int, root: Path = Path("/")) -> str | None:
    """Return why `board` does not train now what is planned with so many bytes, None if it does."""
    return reason(board, planned_bytes, condition(root))


def reason(board: Board, planned_bytes: int, now: Condition) -> str | None:
    """Return the first of the reasons to sit out."""
    if now.celsius is not None and now.celsius > board.most_celsius:
        return f"it is hot: {now.celsius:.0f} °C, and {board.most_celsius:.0f} are allowed"
    if now.discharging and not board.on_battery:
        return "it runs on battery"
    if now.available_bytes is not None and now.available_bytes < planned_bytes:
        return (
            f"its memory is short: {needed(planned_bytes)} are planned and "
            f"{megabytes(now.available_bytes)} are available"
        )
    return None


def condition(root: Path = Path("/")) -> Condition:
    """Look at the machine whose file system begins at `root`."""
    return Condition(_celsius(root), _discharging(root), available_bytes(root))


def _celsius(root: Path) -> float | None:
    found = [_text(path) for path in (root / _THERMAL).glob("thermal_zone*/temp")]
    # In thousandths; a sensor that is switched off says nothing, or less than the absolute zero.
    degrees = [int(text) / 1000 for text in found if text.lstrip("-").isdigit()]
    return max((one for one in degrees if one > -273), default=None)


def _discharging(root: Path) -> bool | None:
    batteries = [
        folder for folder in (root / _POWER).glob("*") if _text(folder / "type") == "Battery"
    ]
    # That of a wireless keyboard says so, and does not feed the board.
    own = [folder for folder in batteries if _text(folder / "scope") != "Device"]
    if not own:
        return None
    return any(_text(folder / "status") == "Discharging" for folder in own)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
