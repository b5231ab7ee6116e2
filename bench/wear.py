"""What a disk really writes while a run saves, beside what the run says it has written.

    python -m bench.wear --bundle DIR --data FOLDER --out FOLDER -- --epochs 40

FOLDER of --out should be on a disk that nobody else writes to, such as a file with ext4 in it that
is mounted; the kernel counts the sectors of the whole device. What follows -- are flags of
`mobiletl train`. Each budget has a run of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECTOR = 512
SCRIPT = Path(__file__).parents[1] / "device" / "train_on_board.py"


@dataclass(frozen=True)
class Device:
    """Sectors written, and flushes that the disk was asked for, since it was there."""

    sectors: int
    flushes: int


def device_of(folder: Path) -> Device:
    """Read what the kernel counts of the disk that `folder` is on, with all that waits written."""
    os.sync()
    number = folder.stat().st_dev
    place = Path("/sys/dev/block") / f"{os.major(number)}:{os.minor(number)}"
    fields = (place / "stat").read_text("ascii").split()
    return Device(int(fields[6]), int(fields[15]) if len(fields) > 15 else 0)


def measured(arguments: list[str], run: Path) -> dict[str, Any]:
    """Train once in the empty folder `run`, and return what was counted."""
    shutil.rmtree(run, ignore_errors=True)
    before, began = device_of(run.parent), time.monotonic()
    command = [sys.executable, str(SCRIPT), *arguments, "--out", str(run), "--json"]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - began
    after = device_of(run.parent)
    written = json.loads(said.stdout)["written"]
    lines = (run / "events.jsonl").read_text("ascii").splitlines()
    return {
        "seconds": seconds,
        "saves": sum(json.loads(line)["event"] == "saved" for line in lines),
        "run_bytes": written["bytes"],
        "run_fsyncs": written["fsyncs"],
        "disk_bytes": SECTOR * (after.sectors - before.sectors),
        "disk_flushes": after.flushes - before.flushes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budgets", default="none,500MB/h")
    parser.add_argument("flags", nargs="*")
    given = parser.parse_args()
    common = ["--bundle", str(given.bundle), "--data", str(given.data), *given.flags]
    print("budget      s     saves  run MB  fsyncs  disk MB  KB more per fsync  disk GB/h")
    for budget in given.budgets.split(","):
        row = measured([*common, "--save-budget", budget], given.out / "run")
        more = (row["disk_bytes"] - row["run_bytes"]) / row["run_fsyncs"] / 1e3
        rate = row["disk_bytes"] / 1e9 / row["seconds"] * 3600
        print(
            f"{budget:<9}{row['seconds']:>6.1f}{row['saves']:>7}{row['run_bytes'] / 1e6:>8.1f}"
            f"{row['run_fsyncs']:>8}{row['disk_bytes'] / 1e6:>9.1f}{more:>19.1f}{rate:>11.2f}"
        )


if __name__ == "__main__":
    main()
