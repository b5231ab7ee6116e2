"""What the firmware of a Raspberry Pi says of power and heat: the bits of `get_throttled`.

`vcgencmd get_throttled` is documented in Raspberry Pi's manual of the operating system. Kernels
from 4.14 to 6.12 also have a file for it (raspberrypi/linux#2397; removed in #6697, and from 4.19
on the first look at it leaves a warning in the kernel's log). Other boards have neither.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

# The file's place on a Raspberry Pi 4 and older, then on a 5.
FILE = "sys/devices/platform/soc*/soc*:firmware/get_throttled"
# The same bits 16 places higher say "since it was switched on".
BITS = (
    (0x1, "under-voltage"),
    (0x2, "processor frequency capped"),
    (0x4, "throttled"),
    (0x8, "soft temperature limit"),
)
SINCE = 16
TIMEOUT_S = 5


def parse_throttled(answer: str) -> int | None:
    """Return the bits in an answer: the file says `50005`, the tool `throttled=0x50005`."""
    number = re.search(r"(?:0x)?([0-9a-fA-F]{1,8})\s*$", answer)
    return int(number[1], 16) if number else None


def throttled(root: Path = Path("/")) -> int | None:
    """Ask the firmware; None where there is none to ask.

    The tool is asked for the machine itself alone; below another `root` there is the file only.
    """
    files = sorted(root.glob(FILE))
    if files:
        try:
            return parse_throttled(files[0].read_text(encoding="ascii", errors="replace"))
        except OSError:
            return None
    return parse_throttled(ask_tool()) if root == Path("/") else None


def ask_tool() -> str:
    """Return what `vcgencmd get_throttled` says, empty where it is missing or refuses."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return ""
    try:
        answer = subprocess.run(
            [tool, "get_throttled"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("ascii", "replace") if answer.returncode == 0 else ""


def names_now(bits: int) -> tuple[str, ...]:
    """Return what is the case now."""
    return tuple(name for bit, name in BITS if bits & bit)


def names_since(bits: int) -> tuple[str, ...]:
    """Return what was the case since the board was switched on."""
    return tuple(name for bit, name in BITS if bits & bit << SINCE)
