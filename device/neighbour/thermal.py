"""How hot the processor is, as Linux says below /sys/class/thermal.

A zone has a `type`, its name, and a `temp` in thousandths of a degree Celsius. The processor's is
`cpu-thermal` on a Raspberry Pi (`bcm2835_thermal` with older kernels), `CPU-therm` on a Jetson, and
`x86_pkg_temp` on a PC. A Jetson Nano's `PMIC-Die` always says 100 degrees.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mobiletl.device.printable import printable

ZONES = "sys/class/thermal/thermal_zone*"
_PROCESSOR = re.compile(r"cpu|core|soc|bcm2835_thermal|x86_pkg_temp", re.IGNORECASE)
# Outside of this a number is no temperature that a processor works at.
COLDEST_C, HOTTEST_C = -40.0, 150.0


@dataclass(frozen=True)
class Zone:
    """One zone: its name, and the file that has its temperature."""

    name: str
    file: Path

    def read(self) -> float | None:
        """Return the temperature in degrees Celsius, None where there is none or it is absurd."""
        text = _text(self.file)
        if not re.fullmatch(r"-?\d{1,9}", text):
            return None
        degrees = int(text) / 1000
        return degrees if COLDEST_C <= degrees <= HOTTEST_C else None


def all_zones(root: Path = Path("/")) -> tuple[Zone, ...]:
    """Return every zone below `root`."""
    places = sorted(root.glob(ZONES))
    return tuple(Zone(_text(place / "type"), place / "temp") for place in places)


def processor_zones(root: Path = Path("/")) -> tuple[Zone, ...]:
    """Return the zones of the processor below `root`."""
    return tuple(zone for zone in all_zones(root) if _PROCESSOR.search(zone.name))


def hottest(zones: tuple[Zone, ...]) -> tuple[float, str] | None:
    """Return the highest temperature and its zone's name; None where none says any."""
    read = [(zone.read(), zone.name) for zone in zones]
    return max(((degrees, name) for degrees, name in read if degrees is not None), default=None)


def zones_text(root: Path = Path("/")) -> str:
    """Say what every zone is called and what it says, for a person."""
    found = [
        f"{printable(zone.name)[:40] or 'without a name'} ({printable(_text(zone.file))[:20]})"
        for zone in all_zones(root)
    ]
    return ", ".join(found) or "no zone at all"


def _text(file: Path) -> str:
    try:
        return file.read_bytes()[:4096].decode("utf-8", "replace").replace("\0", "").strip()
    except OSError:
        return ""
