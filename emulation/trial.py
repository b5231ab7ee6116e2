"""What an emulated board is given, and how its answers are held against those of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulation.engine import SHARED, Installed
from emulation.errors import BoardFailed
from tools.demo import write_digits

SCRIPT = Path(__file__).with_name("on_board.py")
RESULTS = "results.json"
# Ten steps of eight an epoch; the digits are the demo's.
PICTURES = {"train": 80, "val": 20}
LOSS_TOLERANCE = 1e-4
MEMORY_TOLERANCE = 0.15
BESIDE_NUMPY_LIMIT_BYTES = 60_000_000
TIMEOUT_S = 3600


@dataclass(frozen=True)
class Check:
    """One bar: what was found, and whether it holds."""

    name: str
    found: str
    holds: bool


def pack(folder: Path, bundle: Path | None = None, photos: Path | None = None) -> Path:
    """Fill `folder` with what the board gets: script, bundle, pictures; by default the demo's."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SCRIPT, folder)
    if bundle is None:
        command = [str(Path(sys.executable).with_name("mobiletl")), "export", "--weights", "demo"]
        # Adam makes a step of a gradient that is nothing but rounding; two processors differ then.
        command += ["--method", "mobiletl", "--blocks", "3", "--optimizer", "sgd"]
        command += ["--out", str(folder / "bundle")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        shutil.copytree(bundle, folder / "bundle")
    if photos is None:
        write_digits(folder / "digits")
        for split, count in PICTURES.items():
            _take(folder / "digits" / split, folder / "photos" / split, count)
        shutil.rmtree(folder / "digits")
    else:
        shutil.copytree(photos, folder / "photos")
    return folder


def run_here(folder: Path) -> dict[str, Any]:
    """The same on this machine's own processor; `folder` as `pack` left it."""
    command = [sys.executable, str(folder / SCRIPT.name), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return _results(folder, done.returncode, done.stdout + done.stderr)


def run_on(installed: Installed, folder: Path) -> dict[str, Any]:
    """On the board."""
    command = ["python", f"{SHARED}/{SCRIPT.name}", SHARED]
    done = installed.run(folder, command, TIMEOUT_S)
    return _results(folder, done.returncode, done.stdout)


def checks(board: dict[str, Any], here: dict[str, Any]) -> list[Check]:
    """The bars of an emulated board, `here` being the same run on this machine."""
    sizes = board["beside_numpy_bytes"]
    peak, planned = board["peak"]["guest_bytes"], board["planned_bytes"]
    return [
        *results_agree(board, here),
        Check(
            "peak memory",
            f"{peak / 1e6:.1f} MB, planned {planned / 1e6:.1f}, {peak / planned - 1:+.1%} "
            f"(at most {MEMORY_TOLERANCE:.0%}; here {_peak(here) / 1e6:.1f} MB; "
            f"QEMU itself {board['peak']['qemu_bytes'] / 1e6:.1f} MB, not counted)",
            abs(peak / planned - 1) <= MEMORY_TOLERANCE,
        ),
        Check(
            "install beside NumPy",
            f"{sizes['pip'] / 1e6:.1f} MB by pip, {sizes['trimmed'] / 1e6:.1f} after "
            f"`mobiletl trim` (at most {BESIDE_NUMPY_LIMIT_BYTES / 1e6:.0f})",
            0 < sizes["trimmed"] <= BESIDE_NUMPY_LIMIT_BYTES,
        ),
    ]


def results_agree(board: dict[str, Any], here: dict[str, Any]) -> tuple[Check, Check, Check]:
    """(loss, resume, predictions): what any combination of releases must get right."""
    one, two = (_loss(results) for results in (board, here))
    agreeing = sum(here["predicted"][name] == label for name, label in board["predicted"].items())
    return (
        Check(
            f"loss after {board['epochs'][1]['step']} steps",
            f"{one:.7f}, here {two:.7f}, difference {abs(one - two):.1e} "
            f"(at most {LOSS_TOLERANCE:.0e})",
            abs(one - two) <= LOSS_TOLERANCE,
        ),
        Check(
            "resumed after a power cut",
            "the same bytes" if board["resumed_identical"] else "other bytes than never stopped",
            board["resumed_identical"],
        ),
        Check(
            "predictions",
            f"{agreeing} of {len(here['predicted'])} as here",
            agreeing == len(here["predicted"]) == len(board["predicted"]) > 0,
        ),
    )


def _loss(results: dict[str, Any]) -> float:
    """Validation loss after the first epoch."""
    return float(results["epochs"][1]["val_loss"])


def _peak(results: dict[str, Any]) -> int:
    return int(results["measured_peak_bytes"])


def _take(source: Path, target: Path, count: int) -> None:
    """Copy `count` pictures in turn from the classes of `source`, the first ones of each."""
    classes = sorted(folder for folder in source.iterdir() if folder.is_dir())
    for index in range(count):
        chosen = classes[index % len(classes)]
        (target / chosen.name).mkdir(parents=True, exist_ok=True)
        picture = sorted(chosen.iterdir())[index // len(classes)]
        shutil.copy(picture, target / chosen.name)


def _results(folder: Path, code: int, output: str) -> dict[str, Any]:
    if code:
        raise BoardFailed(f"{SCRIPT.name} ended with {code}:\n{output}")
    found: dict[str, Any] = json.loads((folder / RESULTS).read_text("utf-8"))
    return found
