"""Checks of the board itself: processor, memory, swap, power, heat, the run's folder.

Each takes the facts and returns one finding; `doctor.CHECKS` lists them in the order of the report.
"""

from __future__ import annotations

from dataclasses import dataclass

from mobiletl.device.diagnosis.boards import BOARDS, Board
from mobiletl.device.diagnosis.facts import SD_CARD, Facts, Swap
from mobiletl.device.diagnosis.findings import NOTE, OK, PROBLEM, WARNING, Finding
from mobiletl.device.neighbour import firmware
from mobiletl.device.printable import printable

ARM_64 = ("aarch64", "arm64")
PARTS_OF_32_BITS = {0xB76, 0xC07}  # ARM1176 (Raspberry Pi 1, Zero), Cortex-A7 (2)
IMAGER = "write the 64-bit Raspberry Pi OS to the card with Raspberry Pi Imager, and start again"
HOT_C = 80.0  # a Raspberry Pi's firmware slows down from here on
FAT = ("vfat", "msdos", "exfat")
# A run keeps two generations of two states, a plot and reports.
STATES_KEPT = 4
REPORTS_BYTES = 20_000_000
LITTLE_SPACE_BYTES = 500_000_000
# Peaks lie above the plan by code first touched in training and holes in the heap.
HEADROOM = 1.1
COMFORT = 1.5


@dataclass(frozen=True)
class Need:
    """What the bundle asks for, at the asked batch and classes."""

    plan_bytes: int
    state_bytes: int
    batch: int
    smaller_batch: int | None
    """The largest batch whose plan fits what is available; None where none does."""
    fewer_blocks: int | None = None
    """The deepest of the bundle's further levels whose plan fits; None where there is none."""

    @property
    def peak_bytes(self) -> int:
        """What a process is to be given."""
        return round(self.plan_bytes * HEADROOM)


def board_of(facts: Facts) -> Board | None:
    """Return the row of this board: by model, else, on 64-bit Arm, the one left over."""
    for board in BOARDS:
        if any(facts.model.startswith(model) for model in board.models):
            return board
    if facts.process.machine in ARM_64:
        return next(board for board in BOARDS if not board.models)
    return None


def available_bytes(facts: Facts) -> int | None:
    """Return what a process can get without swap, or None where the machine does not say."""
    left = [size for size in (facts.memory.get("MemAvailable"), facts.memory_limit) if size]
    return min(left, default=None)


def check_board(facts: Facts) -> Finding:
    """Which board this is."""
    board = board_of(facts)
    shown = ", ".join(filter(None, (facts.model, facts.system, facts.process.machine)))
    if board is None:
        return Finding("board", NOTE, f"{shown}: not a board of docs/boards.md", "")
    cpu = next((row.cpu for row in BOARDS if row.part in facts.parts), board.cpu)
    return Finding("board", OK, f"{shown} ({board.name}, {cpu})", "")


def check_width(facts: Facts) -> Finding:
    """64 bits all the way: there is no 32-bit wheel of the runtime."""
    machine, bits = facts.process.machine, facts.process.pointer_bits
    if facts.parts and set(facts.parts) <= PARTS_OF_32_BITS:
        return Finding(
            "64 bits",
            PROBLEM,
            f"{facts.model or machine}: the processor has no 64-bit mode, and onnxruntime no "
            "32-bit wheel",
            "use a board of docs/boards.md; a Raspberry Pi Zero 2 W is the smallest",
        )
    if bits == 32 and machine in ARM_64:
        return Finding(
            "64 bits",
            PROBLEM,
            "a 64-bit kernel with a 32-bit system: pip finds no wheel of onnxruntime",
            IMAGER,
        )
    if bits == 32 or machine.startswith("armv7"):
        return Finding(
            "64 bits", PROBLEM, f"a 32-bit system ({machine}): onnxruntime has no wheel", IMAGER
        )
    return Finding("64 bits", OK, f"{machine}, {bits}-bit Python", "")


def check_memory(facts: Facts, need: Need | None) -> Finding:
    """Whether the plan fits what is available now."""
    free = available_bytes(facts)
    if free is None:
        return Finding("memory", NOTE, "the system does not say how much is available", "")
    total = facts.memory.get("MemTotal", 0)
    have = f"{free / 1e6:.0f} MB available of {total / 1e6:.0f}"
    if need is None:
        return Finding("memory", NOTE, f"{have}; no bundle to compare with", "add --bundle DIR")
    wants = f"batch {need.batch} is planned at {need.plan_bytes / 1e6:.0f} MB"
    if need.peak_bytes > free:
        smaller = "stop what else runs (a desktop: sudo systemctl isolate multi-user.target)"
        if need.smaller_batch:
            smaller = f"train with --batch {need.smaller_batch}"
        # A step's pictures are what norms learn from.
        if need.fewer_blocks is not None:
            smaller = f"train with --blocks {need.fewer_blocks}"
        return Finding("memory", PROBLEM, f"{have}; {wants}, and 10 % more in use", smaller)
    if need.plan_bytes * COMFORT > free:
        return Finding(
            "memory",
            WARNING,
            f"{have}; {wants}: it fits, with little left for anything else",
            "stop what else runs (a desktop: sudo systemctl isolate multi-user.target)",
        )
    return Finding("memory", OK, f"{have}; {wants}", "")


def check_memory_cgroup(facts: Facts) -> Finding:
    """Whether the service's MemoryMax would do anything."""
    if facts.memory_cgroup is not False:
        return Finding("memory limits", OK, "the kernel can limit a service's memory", "")
    return Finding(
        "memory limits",
        NOTE,
        "the kernel's memory cgroup is off, so MemoryMax of a service does nothing",
        "add cgroup_enable=memory to the one line of /boot/firmware/cmdline.txt (/boot/cmdline.txt "
        "on older systems) and restart",
    )


def check_swap(facts: Facts, need: Need | None) -> Finding:
    """Swap on a card wears it out, and a run that swaps takes hours instead of minutes."""
    cards = [swap for swap in facts.swaps if swap.device.startswith(SD_CARD)]
    if not cards:
        kinds = ", ".join(swap.path for swap in facts.swaps) or "none"
        return Finding("swap", OK, f"not on an SD card ({kinds})", "")
    free = available_bytes(facts)
    fits = need is not None and free is not None and need.peak_bytes <= free
    size = sum(swap.bytes for swap in cards)
    return Finding(
        "swap",
        NOTE if fits else WARNING,
        f"{size / 1e6:.0f} MB on the SD card ({cards[0].path})"
        + ("; this plan fits without it" if fits else ""),
        _without(cards[0]),
    )


def check_power(facts: Facts) -> Finding:
    """Under-voltage and throttling, now or since the board was switched on."""
    bits = facts.throttled
    if bits is None and not facts.undervoltage:
        return Finding("power", OK, "nothing reported", "")
    bits = (bits or 0) | int(facts.undervoltage)
    now = list(firmware.names_now(bits))
    since = [name for name in firmware.names_since(bits) if name not in now]
    if not now and not since:
        return Finding("power", OK, "no under-voltage, no throttling since the start", "")
    parts = [f"now: {', '.join(now)}"] * bool(now) + [f"earlier: {', '.join(since)}"] * bool(since)
    weak = "under-voltage" in now + since
    return Finding(
        "power",
        WARNING if now or weak else NOTE,
        "; ".join(parts) + f" (get_throttled {bits:#x})",
        "use the board's own power supply and a short cable: under-voltage ruins cards"
        if weak
        else "a heat sink or a fan; until then training is slower",
    )


def check_temperature(facts: Facts) -> Finding:
    """How hot the processor is."""
    degrees = facts.temperature_c
    if degrees is None:
        said = f"not of the processor: {facts.temperature_zone}"
        return Finding("temperature", OK, said, "")
    place = f"{degrees:.0f} degrees C ({printable(facts.temperature_zone)})"
    if degrees >= HOT_C:
        return Finding(
            "temperature",
            WARNING,
            f"{place}: the processor is slowed down",
            "a heat sink or a fan, or train with --max-temp 70",
        )
    return Finding("temperature", OK, place, "")


def check_folder(facts: Facts, need: Need | None) -> Finding:
    """Where the run is written: a file system that renames safely, with space, writable."""
    folder, mount = facts.folder, facts.folder.mount
    place = f"{folder.path} on {mount.kind} ({mount.device})" if mount else str(folder.path)
    if not folder.writable or (mount and "ro" in mount.options):
        return Finding(
            "run folder",
            PROBLEM,
            f"{place} is read-only for this user",
            "name a folder of your own with --out; a card that turned read-only is worn out",
        )
    wants = REPORTS_BYTES + (STATES_KEPT * need.state_bytes if need else 0)
    if folder.free_bytes < wants:
        return Finding(
            "run folder",
            PROBLEM,
            f"{place}: {folder.free_bytes / 1e6:.0f} MB free, a run keeps {wants / 1e6:.0f} MB",
            "free the disk (sudo apt clean), or name another folder with --out",
        )
    if mount and mount.kind in FAT:
        return Finding(
            "run folder",
            WARNING,
            f"{place}: after a power cut FAT can leave a renamed file empty",
            "name a folder on the system's own disk with --out, or format the stick as ext4",
        )
    if folder.free_bytes < LITTLE_SPACE_BYTES:
        return Finding(
            "run folder",
            NOTE,
            f"{place}: {folder.free_bytes / 1e6:.0f} MB free; feature caches may not fit",
            "train with --no-cache, or sudo apt clean",
        )
    return Finding("run folder", OK, f"{place}, {folder.free_bytes / 1e9:.1f} GB free", "")


def _without(swap: Swap) -> str:
    """How to live without this swap: Raspberry Pi OS 12 and older, 13, anything else."""
    if swap.path == "/var/swap":
        return (
            "sudo dphys-swapfile swapoff && sudo systemctl disable dphys-swapfile "
            "(from Raspberry Pi OS 13 on: set Mechanism=zram in /etc/rpi/swap.conf)"
        )
    return f"sudo swapoff {swap.path}, and remove its line from /etc/fstab"
