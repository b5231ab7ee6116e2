"""How long an epoch takes where the kernel allows no more memory than so much.

    python -m bench.limits --bundle artifacts/demo --data photos/ --batch 2 --limits 95,75,73

Each limit is that of a control group. The kernel counts in it what was read from files, too, and
drops that first: what a run reads again and again shows in the third column. It needs root, or a
folder of control groups that it may write to.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import MobileTLError
from runtime_tests.support.memory_group import (
    NoMemoryGroups,
    copied_libraries,
    memory_group,
    train_inside,
)

REFAULTS = ("workingset_refault_file", "workingset_refault")
PAGE_BYTES = 4096


def main(argv: list[str] | None = None) -> int:
    """Print a line for each limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True)
    add("--data", type=Path, required=True, help="a folder of pictures")
    add("--batch", type=int, default=8, help="default: 8")
    add("--limits", default="128,96,88", help="in MB of 1e6 bytes")
    flags = parser.parse_args(argv)
    return guarded(lambda: _measure(flags))


def _measure(flags: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        libraries = copied_libraries(scratch / "libraries")
        runner = flags.bundle.resolve() / "device/train_on_board.py"
        words = [str(runner), "--data", str(flags.data.resolve()), "--epochs", "1"]
        words += ["--batch", str(flags.batch)]
        for row, limit in enumerate(map(float, flags.limits.split(","))):
            try:
                with memory_group(int(1e6 * limit)) as group:
                    began = time.monotonic()
                    out = ["--out", str(scratch / f"run{row}")]
                    done = train_inside(group, libraries, [*words, *out], scratch)
                    seconds = time.monotonic() - began
                    read = _read_again(group.folder / "memory.stat")
            except NoMemoryGroups as error:
                raise MobileTLError(f"no memory control group to be had: {error}") from error
            planned = _planned(done.stdout)
            print(
                f"{limit:g} MB: exit code {done.returncode}, {seconds:.1f} s, "
                f"{read / 1e6:.0f} MB of files read again, {planned}",
                flush=True,
            )
    return 0


def _read_again(statistics: Path) -> int:
    """Bytes of files that were dropped and then wanted again."""
    pairs = (line.split() for line in statistics.read_text("ascii").splitlines())
    found = {key: int(value) for key, value in pairs}
    return PAGE_BYTES * next((found[key] for key in REFAULTS if key in found), 0)


def _planned(report: str) -> str:
    if not report:
        return "no report"
    return f"planned {json.loads(report)['memory']['planned_bytes'] / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
