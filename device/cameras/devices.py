"""What a Linux machine says of its video devices, read from files; no device is opened.

Files are read below a root, so that a test shows the files of a board on a laptop.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# Drivers whose devices are parts of a Raspberry Pi's or Jetson's own camera and video hardware.
RIBBON = ("unicam", "rp1-cfe", "vi-output")
HELPERS = ("bcm2835-codec", "bcm2835-isp", "pispbe", "rpivid", "rpi-hevc-dec", "hevc", "tegra")


@dataclass(frozen=True)
class VideoDevice:
    """One /dev/video*."""

    path: str
    name: str
    """What its driver calls it; empty where nobody says."""
    index: int = 0
    """0 for the pictures of a camera; higher ones carry what else it has to say."""
    allowed: bool = True
    """Whether this user may read and write it."""
    holders: tuple[str, ...] = ()
    """Programs that have it open, as far as this user may see."""

    @property
    def ribbon(self) -> bool:
        """Whether it is the raw end of a camera on the ribbon, which needs another library."""
        return self.name.startswith(RIBBON)

    @property
    def helper(self) -> bool:
        """Whether it is a converter of the board and no camera at all."""
        return self.name.startswith(HELPERS)

    def shown(self) -> str:
        """Return its path with its name."""
        return f"{self.path} ({self.name})" if self.name else self.path


def video_devices(root: Path = Path("/")) -> tuple[VideoDevice, ...]:
    """Return the devices below `root`, in the order of their numbers, without the helpers."""
    files = sorted(root.glob("dev/video[0-9]*"), key=_number)
    found = [_device(file, root) for file in files]
    return tuple(device for device in found if not device.helper)


def holders_of(path: str, root: Path = Path("/")) -> tuple[str, ...]:
    """Return the programs that have the file `path` open, this one left out: `vlc (process 4)`.

    Processes of other users are seen by root alone.
    """
    found = []
    for process in root.glob("proc/[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            opened = any(os.readlink(str(link)) == path for link in process.glob("fd/*"))
        except OSError:  # another user's, or it has just ended
            continue
        if opened:
            found.append(f"{_text(process / 'comm') or 'a program'} (process {process.name})")
    return tuple(found)


def _device(file: Path, root: Path) -> VideoDevice:
    path = f"/dev/{file.name}"
    about = root / "sys/class/video4linux" / file.name
    index = _text(about / "index")
    return VideoDevice(
        path=path,
        name=_text(about / "name"),
        index=int(index) if index.isdigit() else 0,
        allowed=os.access(str(file), os.R_OK | os.W_OK),
        holders=holders_of(path, root),
    )


def _number(file: Path) -> int:
    digits = re.sub(r"\D", "", file.name)
    return int(digits) if digits else 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
