"""`python -m emulation.matrix`: every Python with the oldest and newest onnxruntime.

On this machine's processor, and pairs of them on emulated boards where an engine can. Each row
installs the wheel, trains, loses power, resumes and predicts (`on_board.py`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulation.engine import choose
from emulation.errors import BoardFailed, CannotEmulate
from emulation.machine import machine
from emulation.native import Native
from emulation.trial import (
    pack,
    results_agree,
    run_here,
    run_on,
)
from mobiletl.device.diagnosis.boards import OLDEST_ONNXRUNTIME, WHEELS
from tools.own_wheel import build_wheel

# The first release that has a wheel for the Python, where that is not our oldest.
FIRST_WHEEL = {"3.12": "1.17.0", "3.13": "1.20.0"}
PYTHONS = ("3.8", "3.9", "3.11", "3.12", "3.13")
# The board decides the Python: Debian 11 has 3.9, 12 has 3.11, 13 has 3.13.
EMULATED = (("jetson-nano", "1.16.3"), ("jetson-nano", "1.19.2"), ("pi4", "1.27.0"), ("pi5", ""))
COLUMNS = ("processor", "Python", "onnxruntime", "NumPy", "loss differs by", "resumed", "")


@dataclass(frozen=True)
class Row:
    """One combination: `trial` returns what it found, or raises BoardFailed or CannotEmulate."""

    part: str
    processor: str
    python: str
    onnxruntime: str
    trial: Callable[[Path, Path], dict[str, Any]]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a row failed, 0 otherwise (a row that can't be tried is no failure)."""
    parser = argparse.ArgumentParser(prog="python -m emulation.matrix")
    parser.add_argument("part", nargs="?", choices=("native", "emulated"), help="default: both")
    part = parser.parse_args(argv).part
    chosen = [row for row in rows() if part in (None, row.part)]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        wheel = build_wheel(scratch / "wheel")
        here = run_here(pack(scratch / "here"))
        print(_line(COLUMNS))
        verdicts = [_try(row, wheel, here, scratch / str(i)) for i, row in enumerate(chosen)]
    return 0 if all(verdicts) else 1


def rows() -> list[Row]:
    """All combinations."""
    newest = {row.python: row.onnxruntime for row in WHEELS}
    natives = [
        Native(python, release)
        for python in PYTHONS
        for release in (FIRST_WHEEL.get(python, OLDEST_ONNXRUNTIME), newest[python])
    ]
    return [
        *(Row("native", "this machine's", n.python, n.onnxruntime, _native(n)) for n in natives),
        *(_emulated(name, release) for name, release in EMULATED),
    ]


def _native(native: Native) -> Callable[[Path, Path], dict[str, Any]]:
    def trial(wheel: Path, folder: Path) -> dict[str, Any]:
        objection = native.objection()
        if objection:
            raise CannotEmulate(objection)
        native.install(wheel)
        return run_on(native, folder)

    return trial


def _emulated(name: str, release: str) -> Row:
    board = machine(name, release or None)

    def trial(wheel: Path, folder: Path) -> dict[str, Any]:
        return run_on(choose(board).install(board, wheel), folder)

    return Row("emulated", f"{board.board.cpu}, emulated", "", board.onnxruntime, trial)


def _try(row: Row, wheel: Path, here: dict[str, Any], folder: Path) -> bool:
    """Print a row's line; whether it did not fail."""
    names = (row.processor, row.python, row.onnxruntime)
    pack(folder, folder.parent / "here/bundle", folder.parent / "here/photos")
    try:
        found = row.trial(wheel, folder)
    except CannotEmulate as error:
        print(_line((*names, "", "", "", f"not tried: {error}")), flush=True)
        return True
    except BoardFailed as error:
        print(_line((*names, "", "", "", f"FAILED: {error}")), flush=True)
        return False
    loss, resumed, predictions = results_agree(found, here)
    one, two = (each["epochs"][1]["val_loss"] for each in (found, here))
    # Memory is left out: the plan is for the board's own wheels, not for every combination.
    good = loss.holds and resumed.holds and predictions.holds
    cells = (row.processor, found["python"], row.onnxruntime, found["versions"]["numpy"])
    same = "same bytes" if resumed.holds else "OTHER BYTES"
    print(_line((*cells, f"{abs(one - two):.1e}", same, "good" if good else "BAD")), flush=True)
    return good


def _line(cells: tuple[str, ...]) -> str:
    widths = (22, 9, 13, 9, 17, 12, 0)
    return "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
