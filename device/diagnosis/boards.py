"""The boards this program is meant for, one row each: what they are and what runs on them.

docs/boards.md shows the same table with its sources; a test compares the two. `emulate` and
`doctor` read it. GiB are 2**30 bytes; a board's memory is that of its smallest variant.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
# Dies of an illegal instruction on every processor without Armv8.1's atomics
# (microsoft/onnxruntime#24112); 1.21.1 is built without them.
SIGILL_ONNXRUNTIME = ("1.21.0",)


@dataclass(frozen=True)
class Wheels:
    """The newest aarch64 wheels for one Python, as `tools/board_wheels.py` finds them."""

    python: str
    onnxruntime: str
    glibc: str
    """The C library that this onnxruntime's wheel asks for."""
    numpy: str


WHEELS: tuple[Wheels, ...] = (
    Wheels("3.8", onnxruntime="1.19.2", glibc="2.27", numpy="1.24.4"),
    Wheels("3.9", onnxruntime="1.19.2", glibc="2.27", numpy="2.0.2"),
    Wheels("3.10", onnxruntime="1.23.2", glibc="2.27", numpy="2.2.6"),
    Wheels("3.11", onnxruntime="1.31.1", glibc="2.28", numpy="2.4.6"),
    Wheels("3.12", onnxruntime="1.31.1", glibc="2.28", numpy="2.5.5"),
    Wheels("3.13", onnxruntime="1.31.1", glibc="2.28", numpy="2.5.5"),
    Wheels("3.14", onnxruntime="1.31.1", glibc="2.28", numpy="2.5.5"),
)
# The last release whose wheel asks for no more than glibc 2.27; 1.29 and later ask for 2.28.
LAST_ONNXRUNTIME_FOR_GLIBC_2_27 = "1.28.0"
# The oldest that trains here; the oldest made for NumPy 2.
OLDEST_ONNXRUNTIME = "1.16.3"
FIRST_ONNXRUNTIME_FOR_NUMPY_2 = "1.19.0"


@dataclass(frozen=True)
class Board:
    """One row. Versions are texts, as a package index writes them."""

    name: str
    title: str
    models: tuple[str, ...]
    """What /proc/device-tree/model begins with; nothing for the row that is left over."""
    cpu: str
    """The processor by the name QEMU_CPU takes."""
    part: int
    """The "CPU part" of /proc/cpuinfo; the implementer is Arm's, 0x41."""
    memory_bytes: int
    system: str
    """The system most people run on it, with its C library."""
    glibc: str
    python: str
    debian: str
    """The Debian release nearest to that system, of those an emulated board can have."""
    onnxruntime: str
    """The newest release that has a wheel for this Python and C library and runs."""
    bad_onnxruntime: tuple[str, ...]
    """Releases that have such a wheel and die."""


BOARDS: tuple[Board, ...] = (
    Board(
        name="pi-zero2",
        title="Raspberry Pi Zero 2 W",
        models=("Raspberry Pi Zero 2",),
        cpu="cortex-a53",
        part=0xD03,
        memory_bytes=512 * MIB,
        system="Raspberry Pi OS 12, 64-bit",
        glibc="2.36",
        python="3.11",
        debian="12",
        onnxruntime="1.31.1",
        bad_onnxruntime=SIGILL_ONNXRUNTIME,
    ),
    Board(
        name="pi3",
        title="Raspberry Pi 3 and CM3",
        models=("Raspberry Pi 3", "Raspberry Pi Compute Module 3"),
        cpu="cortex-a53",
        part=0xD03,
        memory_bytes=512 * MIB,
        system="Raspberry Pi OS 12, 64-bit",
        glibc="2.36",
        python="3.11",
        debian="12",
        onnxruntime="1.31.1",
        bad_onnxruntime=SIGILL_ONNXRUNTIME,
    ),
    Board(
        name="pi4",
        title="Raspberry Pi 4, 400 and CM4",
        models=("Raspberry Pi 4", "Raspberry Pi Compute Module 4"),
        cpu="cortex-a72",
        part=0xD08,
        memory_bytes=1024 * MIB,
        system="Raspberry Pi OS 12, 64-bit",
        glibc="2.36",
        python="3.11",
        debian="12",
        onnxruntime="1.31.1",
        bad_onnxruntime=SIGILL_ONNXRUNTIME,
    ),
    Board(
        name="pi5",
        title="Raspberry Pi 5, 500 and CM5",
        models=("Raspberry Pi 5", "Raspberry Pi Compute Module 5"),
        cpu="cortex-a76",
        part=0xD0B,
        memory_bytes=1024 * MIB,
        system="Raspberry Pi OS 13",
        glibc="2.41",
        python="3.13",
        debian="13",
        onnxruntime="1.31.1",
        bad_onnxruntime=(),
    ),
    Board(
        name="jetson-nano",
        title="NVIDIA Jetson Nano",
        models=("NVIDIA Jetson Nano",),
        cpu="cortex-a57",
        part=0xD07,
        memory_bytes=2048 * MIB,
        system="JetPack 4.6 (Ubuntu 18.04)",
        glibc="2.27",
        python="3.8",
        debian="11",
        onnxruntime="1.19.2",
        bad_onnxruntime=(),
    ),
    Board(
        name="aarch64",
        title="any other 64-bit Arm board",
        models=(),
        cpu="cortex-a53",
        part=0,
        memory_bytes=512 * MIB,
        system="Debian 12",
        glibc="2.36",
        python="3.11",
        debian="12",
        onnxruntime="1.31.1",
        bad_onnxruntime=SIGILL_ONNXRUNTIME,
    ),
)


def board_named(name: str) -> Board:
    """Return the row called `name`; an unknown name is a KeyError that lists the known ones."""
    for board in BOARDS:
        if board.name == name:
            return board
    raise KeyError(f"no board {name!r}; known are {', '.join(board.name for board in BOARDS)}")
