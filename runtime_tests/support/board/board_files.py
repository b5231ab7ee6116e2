"""The files by which `doctor` knows a board, as the boards themselves show them.

The texts are those of a Raspberry Pi 4 Model B, 5 Model B, Zero 2 W and a Jetson Nano under their
usual systems, one processor of four left in; serial numbers are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PROCESSOR = """\
processor\t: 0
BogoMIPS\t: {bogomips}
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
RASPBERRY = """\
Hardware\t: BCM2835
Revision\t: {revision}
Serial\t\t: 0000000000000000
Model\t\t: {model}
"""
MEMORY = """\
MemTotal:        {total} kB
MemFree:          {free} kB
MemAvailable:    {available} kB
Buffers:           17016 kB
SwapTotal:        102396 kB
SwapFree:         102396 kB
HugePages_Total:       0
"""
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux {number} ({name})"\nNAME="Debian GNU/Linux"\n'
CARD = """\
/dev/mmcblk0p2 / ext4 rw,noatime 0 0
proc /proc proc rw,relatime 0 0
/dev/mmcblk0p1 /boot/firmware vfat rw,relatime,fmask=0022 0 0
"""
CARD_SWAP = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
VAR_SWAP = CARD_SWAP + "/var/swap                               file\t\t102396\t\t0\t\t-2\n"
ZRAM_SWAP = CARD_SWAP + "/dev/zram0                              partition\t2097136\t\t0\t\t100\n"


@dataclass(frozen=True)
class BoardFiles:
    """Text by path below the root."""

    files: dict[str, str] = field(default_factory=dict)

    def write(self, root: Path, **changed: str) -> Path:
        """Write them below `root`; `changed` names a file by its last part."""
        for path, content in self.files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(changed.get(target.name, content), encoding="utf-8")
        return root


def _raspberry(model: str, cpuinfo: str, debian: str, kilobytes: int, swap: str) -> BoardFiles:
    memory = MEMORY.format(total=kilobytes, free=kilobytes // 3, available=kilobytes * 4 // 5)
    return BoardFiles(
        {
            "proc/device-tree/model": model + "\0",
            "proc/cpuinfo": cpuinfo,
            "proc/meminfo": memory,
            "proc/mounts": CARD,
            "proc/swaps": swap,
            "etc/os-release": debian,
            "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            # Raspberry Pi kernels start with the memory controller off.
            "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n",
        }
    )


PI4 = _raspberry(
    "Raspberry Pi 4 Model B Rev 1.1",
    PROCESSOR.format(
        bogomips="108.00",
        features="fp asimd evtstrm crc32 cpuid",
        variant="0x0",
        part="0xd08",
        revision="3",
    )
    + RASPBERRY.format(revision="c03111", model="Raspberry Pi 4 Model B Rev 1.1"),
    DEBIAN.format(number=12, name="bookworm"),
    3885396,
    VAR_SWAP,
)
PI5 = _raspberry(
    "Raspberry Pi 5 Model B Rev 1.0",
    PROCESSOR.format(
        bogomips="108.00",
        features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
        "lrcpc dcpop asimddp",
        variant="0x4",
        part="0xd0b",
        revision="1",
    )
    + RASPBERRY.format(revision="d04170", model="Raspberry Pi 5 Model B Rev 1.0"),
    DEBIAN.format(number=13, name="trixie"),
    8255488,
    ZRAM_SWAP,
)
ZERO2 = _raspberry(
    "Raspberry Pi Zero 2 W Rev 1.0",
    PROCESSOR.format(
        bogomips="108.00",
        features="fp asimd evtstrm crc32 cpuid",
        variant="0x0",
        part="0xd03",
        revision="4",
    )
    + RASPBERRY.format(revision="902120", model="Raspberry Pi Zero 2 W Rev 1.0"),
    DEBIAN.format(number=12, name="bookworm"),
    426000,
    VAR_SWAP,
)
JETSON = BoardFiles(
    {
        "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
        "proc/cpuinfo": PROCESSOR.format(
            bogomips="38.40",
            features="fp asimd evtstrm aes pmull sha1 sha2 crc32",
            variant="0x1",
            part="0xd07",
            revision="1",
        ),
        "proc/meminfo": MEMORY.format(total=4059216, free=1200000, available=2600000),
        "proc/mounts": "/dev/mmcblk0p1 / ext4 rw,relatime,data=ordered 0 0\n",
        "proc/swaps": ZRAM_SWAP,
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 18.04.6 LTS"\n',
        "sys/class/thermal/thermal_zone1/type": "CPU-therm\n",
        "sys/class/thermal/thermal_zone1/temp": "39500\n",
        # Always 100 degrees, on every Jetson Nano.
        "sys/class/thermal/thermal_zone4/type": "PMIC-Die\n",
        "sys/class/thermal/thermal_zone4/temp": "100000\n",
    }
)
