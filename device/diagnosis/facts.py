"""What `doctor` knows about a machine, read from files and never by importing a runtime.

Files are read below a root, and what no file tells comes in a `Process`: a test feeds the files of
a Raspberry Pi on a laptop. A file that is missing or odd is a fact left empty, never an error.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import struct
import sys
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Callable, Mapping

from mobiletl.device.cameras.devices import VideoDevice, video_devices
from mobiletl.device.neighbour import firmware, thermal

ARM = 0x41
KIB = 1024
SD_CARD = "/dev/mmcblk"


@dataclass(frozen=True)
class Process:
    """What this Python says of itself and of its environment."""

    machine: str
    """As `uname -m` says; a 32-bit Python on a 64-bit kernel still says aarch64."""
    pointer_bits: int
    python: tuple[int, int]
    glibc: tuple[int, int] | None
    packages: Mapping[str, tuple[str, ...]]
    """Versions by lower-case name, in the order of the path: the first is what is imported."""
    importable: frozenset[str]
    """Of picamera2 and cv2, those an `import` would find."""
    throttled: Callable[[], str] = field(default=lambda: "")
    """Answers as `vcgencmd get_throttled` does, or with nothing."""


@dataclass(frozen=True)
class Mount:
    """One line of /proc/mounts."""

    device: str
    point: str
    kind: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """The place of a run: what holds it, and what fits in."""

    path: Path
    mount: Mount | None
    free_bytes: int
    writable: bool


@dataclass(frozen=True)
class Swap:
    """One line of /proc/swaps; `device` is what the pages are written to."""

    path: str
    device: str
    bytes: int


@dataclass(frozen=True)
class Facts:
    """Everything the checks look at. None and empty texts: the machine does not say."""

    process: Process
    model: str
    system: str
    parts: tuple[int, ...]
    """The "CPU part" of Arm's own processors, each once."""
    features: frozenset[str]
    memory: Mapping[str, int]
    """/proc/meminfo in bytes."""
    memory_limit: int | None
    """What the process's memory cgroup has left."""
    memory_cgroup: bool | None
    """Whether the kernel can limit a service's memory; None without a list of controllers."""
    swaps: tuple[Swap, ...]
    throttled: int | None
    undervoltage: bool
    temperature_c: float | None
    temperature_zone: str
    """The zone that says it; all there are, where none is the processor's."""
    video_devices: tuple[VideoDevice, ...]
    system_picamera2: bool
    folder: Folder


def this_process() -> Process:
    """Ask the running interpreter."""
    packages: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            packages.setdefault(name.lower().replace("_", "-"), []).append(distribution.version)
    found = {name for name in ("picamera2", "cv2") if util.find_spec(name) is not None}
    return Process(
        machine=platform.machine(),
        pointer_bits=8 * struct.calcsize("P"),
        python=sys.version_info[:2],
        glibc=_glibc(),
        packages={name: tuple(versions) for name, versions in packages.items()},
        importable=frozenset(found),
        throttled=firmware.ask_tool,
    )


def read_facts(folder: Path, process: Process, root: Path = Path("/")) -> Facts:
    """Read the machine below `root`; `folder` is absolute and need not exist yet."""
    mounts = _mounts(_text(root / "proc/mounts"))
    cpuinfo = _text(root / "proc/cpuinfo")
    memory = _memory(_text(root / "proc/meminfo"))
    found = thermal.hottest(thermal.processor_zones(root))
    return Facts(
        process=process,
        model=_model(root, cpuinfo),
        system=_system(_text(root / "etc/os-release")),
        parts=_parts(cpuinfo),
        features=frozenset(" ".join(re.findall(r"^Features\s*:(.*)$", cpuinfo, re.M)).split()),
        memory=memory,
        memory_limit=_memory_limit(root),
        memory_cgroup=_memory_cgroup(root),
        swaps=_swaps(_text(root / "proc/swaps"), mounts, root),
        throttled=_throttled(root, process),
        undervoltage=_undervoltage(root),
        temperature_c=None if found is None else found[0],
        temperature_zone=thermal.zones_text(root) if found is None else found[1],
        video_devices=video_devices(root),
        system_picamera2=(root / "usr/lib/python3/dist-packages/picamera2").is_dir(),
        folder=_folder(folder, mounts, root),
    )


def on_sd_card(device: str, root: Path = Path("/")) -> bool:
    """Whether `device` is an SD card or an eMMC; older systems call the root /dev/root."""
    if device == "/dev/root":
        return any(root.glob("sys/block/mmcblk*")) and not any(root.glob("sys/block/[sn][dv]*"))
    return device.startswith(SD_CARD)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError:
        return ""


def _model(root: Path, cpuinfo: str) -> str:
    """The device tree's, else what Raspberry Pi kernels add to cpuinfo (containers show both)."""
    tree = (root / "proc/device-tree/model", root / "sys/firmware/devicetree/base/model")
    last = re.search(r"^Model\s*: (.*)$", cpuinfo, re.M)
    return next(filter(None, map(_text, tree)), last[1] if last else "").strip()


def _system(release: str) -> str:
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.M)
    return name[1] if name else ""


def _parts(cpuinfo: str) -> tuple[int, ...]:
    makers = [int(text, 16) for text in re.findall(r"^CPU implementer\s*: (0x\w+)", cpuinfo, re.M)]
    parts = [int(text, 16) for text in re.findall(r"^CPU part\s*: (0x\w+)", cpuinfo, re.M)]
    return tuple(sorted({part for maker, part in zip(makers, parts) if maker == ARM}))


def _memory(meminfo: str) -> dict[str, int]:
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.M)
    return {name: int(count) * KIB for name, count in lines}


def _memory_limit(root: Path) -> int | None:
    """Bytes left in this process's own cgroup (version 2) or the container's root."""
    line = re.search(r"^0::/(.*)$", _text(root / "proc/self/cgroup"), re.M)
    for group in (root / "sys/fs/cgroup" / (line[1] if line else ""), root / "sys/fs/cgroup"):
        most, used = (_text(group / name).strip() for name in ("memory.max", "memory.current"))
        if most.isdigit() and used.isdigit():
            return max(0, int(most) - int(used))
    return None


def _memory_cgroup(root: Path) -> bool | None:
    """Raspberry Pi kernels start with it off (raspberrypi/linux#6980)."""
    listed = _text(root / "sys/fs/cgroup/cgroup.controllers").split()
    return "memory" in listed if listed else None


def _mounts(text: str) -> tuple[Mount, ...]:
    found = []
    for line in text.splitlines():
        fields = [word.replace("\\040", " ") for word in line.split(" ")]
        if len(fields) >= 4:
            found.append(Mount(fields[0], fields[1], fields[2], tuple(fields[3].split(","))))
    return tuple(found)


def _mount_of(path: Path, mounts: tuple[Mount, ...]) -> Mount | None:
    """The mount with the longest point above `path`; of equal ones the later, which covers."""
    found: Mount | None = None
    for mount in mounts:
        holds = Path(mount.point) == path or Path(mount.point) in path.parents
        if holds and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _swaps(text: str, mounts: tuple[Mount, ...], root: Path) -> tuple[Swap, ...]:
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 3 or not fields[2].isdigit():
            continue
        path = fields[0].replace("\\040", " ")
        holder = None if path.startswith("/dev/") else _mount_of(Path(path), mounts)
        device = holder.device if holder else path
        device = SD_CARD if on_sd_card(device, root) else device
        found.append(Swap(path, device, int(fields[2]) * KIB))
    return tuple(found)


def _throttled(root: Path, process: Process) -> int | None:
    """The firmware's bits (neighbour/firmware.py)."""
    answers = [_text(file) for file in sorted(root.glob(firmware.FILE))] or [process.throttled()]
    return firmware.parse_throttled(answers[0])


def _undervoltage(root: Path) -> bool:
    for name in root.glob("sys/class/hwmon/hwmon*/name"):
        if _text(name).strip() == "rpi_volt":
            return _text(name.with_name("in0_lcrit_alarm")).strip() == "1"
    return False


def _folder(path: Path, mounts: tuple[Mount, ...], root: Path) -> Folder:
    below = root.joinpath(*path.parts[1:]) if root != Path("/") else path
    there = next(place for place in (below, *below.parents) if place.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        free = 0
    return Folder(path, _mount_of(path, mounts), free, os.access(there, os.W_OK))


def _glibc() -> tuple[int, int] | None:
    name, version = platform.libc_ver()
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return (int(numbers[1]), int(numbers[2])) if name == "glibc" and numbers else None
