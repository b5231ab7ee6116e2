"""Count the instructions of a picture's pass and of a step on emulated processors.

    python -m emulation.instructions --board pi4 pi5 --bundle artifacts/mbv2 artifacts/mbv2-int8

An emulator says nothing about time, but it executes exactly the instructions that the processor
would. One thread, batch 8, 10 classes; opening the bundle and a first pass and step are taken off.
Needs root and what `make emulate` needs besides, a C compiler, and a qemu-aarch64 with plugins
(Debian's qemu-user; its static build loads none).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emulation.chroot import Chroot, Place
from emulation.counted import BATCH
from emulation.errors import BoardFailed, CannotEmulate
from emulation.machine import ENVIRONMENT, NAMES, Machine, machine
from tools.own_wheel import build_wheel

PLUGIN = Path(__file__).with_name("count.c")
SCRIPT = Path(__file__).with_name("counted.py")
EMULATOR = "qemu-aarch64"
MORE = 4
ROUNDS = 2
# All of the program's environment: what Python does before the first pass is the same each time.
SETTINGS = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    **ENVIRONMENT,
}
TIMEOUT_S = 1800
COUNT = re.compile(r"^instructions (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Counted:
    """Instructions for a picture: one pass of the frozen layers, and an eighth of a step."""

    features: float
    step: float


@dataclass(frozen=True)
class Counter:
    """A board's programs under an emulator that counts; see the module."""

    place: Place
    plugin: Path

    def count(self, bundle: Path) -> Counted:
        """Count a pass and a step of `bundle`. Raises BoardFailed with what the program said."""
        opened = self._least(bundle, 0, 0)
        features = (self._least(bundle, MORE, 0) - opened) / MORE
        step = (self._least(bundle, 0, MORE) - opened) / MORE
        return Counted(features, step / BATCH)

    def _least(self, bundle: Path, passes: int, steps: int) -> int:
        """Of two runs: the first may rehearse the opening of a bundle, which is a third more."""
        return min(self._executed(bundle, passes, steps) for _ in range(ROUNDS))

    def _executed(self, bundle: Path, passes: int, steps: int) -> int:
        """All instructions of counted.py. Not in a chroot, where the emulator finds no plugin.

        Files below the board's root are taken before the host's, /proc/cpuinfo among them.
        """
        root = self.place.root
        (root / "proc").mkdir(exist_ok=True)
        cpuinfo = root / "proc/cpuinfo"
        cpuinfo.write_text(self.place.machine.cpuinfo(), "ascii")
        environment = root / self.place.environment[1:]
        packages = next((environment / "lib").glob("python3*/site-packages"))
        command = [shutil.which(EMULATOR), "-L", root, "-cpu", self.place.machine.board.cpu]
        command += ["-plugin", self.plugin, root / f"usr/bin/{packages.parent.name}"]
        command += [SCRIPT, bundle, passes, steps]
        done = subprocess.run(
            [str(word) for word in command],
            env={**SETTINGS, "PYTHONPATH": str(packages)},
            capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        found = COUNT.search(done.stderr)
        if done.returncode or found is None:
            raise BoardFailed(f"{SCRIPT.name} ended with {done.returncode}: {done.stderr[-2000:]}")
        return int(found[1])


def objection() -> str:
    """Why nothing can be counted here, in half a sentence; empty where it can."""
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        return f"needs {EMULATOR} (apt install qemu-user)"
    said = subprocess.run([emulator, "-h"], capture_output=True, text=True, check=False).stdout
    if "-plugin" not in said:
        return f"{emulator} loads no plugins (apt install qemu-user)"
    return "" if shutil.which("cc") else "needs a C compiler (apt install gcc)"


def build_plugin(folder: Path) -> Path:
    """Compile count.c into `folder`."""
    plugin = folder / "count.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", plugin, PLUGIN], check=True)
    return plugin


def counter(board: Machine, wheel: Path, folder: Path) -> Counter:
    """The counter for `board`, with `wheel` installed. Raises CannotEmulate."""
    chroot = Chroot()
    problem = objection() or chroot.objection(board)
    if problem:
        raise CannotEmulate(problem)
    return Counter(chroot.install(board, wheel), build_plugin(folder))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table; 2 if nothing here can count, 1 if a board's program fails."""
    flags = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            _report(flags, Path(scratch))
        except (CannotEmulate, BoardFailed, subprocess.SubprocessError) as error:
            print(f"instructions: {error}", file=sys.stderr)
            return 2 if isinstance(error, CannotEmulate) else 1
    return 0


def _report(flags: argparse.Namespace, scratch: Path) -> None:
    wheel = build_wheel(scratch / "wheel")
    print("| board | processor | bundle | pass, M instructions a picture | step | all |")
    print("|---|---|---|---|---|---|")
    for name in flags.board:
        board = machine(name).board
        counts = counter(machine(name), wheel, scratch)
        for bundle in flags.bundle:
            found = counts.count(bundle.resolve())
            figures = (found.features, found.step, found.features + found.step)
            row = " | ".join(f"{figure / 1e6:.1f}" for figure in figures)
            print(f"| {board.title} | {board.cpu} | {bundle.name} | {row} |", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emulation.instructions",
        description="Count the instructions of a picture's pass and of a step on emulated boards.",
    )
    add = parser.add_argument
    add("--board", nargs="+", default=list(NAMES), choices=NAMES, help="default: all")
    add("--bundle", nargs="+", type=Path, required=True, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
