"""What is emulated: a row of device/diagnosis/boards.py, and the onnxruntime that is tried."""

from __future__ import annotations

from dataclasses import dataclass

from mobiletl.device.diagnosis.boards import FIRST_ONNXRUNTIME_FOR_NUMPY_2, Board, board_named

CORES = 4
# The four boards that are promised; the table has more rows than that.
NAMES = ("pi4", "pi5", "jetson-nano", "pi-zero2")
ARM = 0x41
# What onnxruntime reads to find out on what it runs. Some releases end at import without them,
# others when they find the host's (an x86 processor) in their place.
CPU_LISTS = ("possible", "present", "online")

# For every program of a board. QEMU reads code once, to translate it: what a process gives back
# would not be counted when it runs again (device/sessions/freed.py).
ENVIRONMENT = {"MOBILETL_KEEP_CODE": "1"}


@dataclass(frozen=True)
class Machine:
    """A board with one release of onnxruntime."""

    board: Board
    onnxruntime: str
    extra: str = ""
    """The package's extra that is installed beside its base."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """What is pinned beside the package itself."""
        return requirements(self.onnxruntime)

    def wheel(self, path: str) -> str:
        """What pip is told to install the wheel at `path` with."""
        return f"{path}[{self.extra}]" if self.extra else path

    def cpuinfo(self) -> str:
        """/proc/cpuinfo as the board's kernel would write it."""
        core = (
            "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
            f"CPU implementer\t: {ARM:#x}\nCPU architecture: 8\nCPU variant\t: 0x0\n"
            f"CPU part\t: {self.board.part:#05x}\nCPU revision\t: 3\n\n"
        )
        return "".join(core.format(index) for index in range(CORES))

    def cpu_lists(self) -> dict[str, str]:
        """Files of /sys/devices/system/cpu."""
        return dict.fromkeys(CPU_LISTS, f"0-{CORES - 1}\n")


def machine(name: str, onnxruntime: str | None = None, extra: str = "") -> Machine:
    """The board called `name`, with its newest onnxruntime where none is named."""
    board = board_named(name)
    return Machine(board, onnxruntime or board.onnxruntime, extra)


def requirements(onnxruntime: str) -> tuple[str, ...]:
    """What pip is told to get this release; the older ones were made for NumPy 1."""
    old = _numbers(onnxruntime) < _numbers(FIRST_ONNXRUNTIME_FOR_NUMPY_2)
    return (f"onnxruntime=={onnxruntime}", *(["numpy<2"] if old else []))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
