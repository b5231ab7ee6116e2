"""What training takes after pictures were taken by a camera that OpenCV reads, beside its plan.

    python -m bench.capture.then_train --bundle artifacts/mbv2 --data sets/animals4

A video is made of the pictures and played as the camera. Three runs train on what was kept of it,
each in a process of its own: `train --camera`, `train` on the folder, and one in whose process
the pictures were taken, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.capture.videos import HEIGHT, RATE, WIDTH, video
from mobiletl.device.pictures.dataset import files_below

PER_CLASS, SECONDS = 20, 40.0
CLASSES = "first,second"
TRAIN = "from mobiletl.device.commands.table import main; import sys; sys.exit(main(sys.argv[1:]))"
# As it was before pictures were taken apart.
TOGETHER = (
    "from mobiletl.device.commands import capturing, taking; capturing.take_apart = taking.take; "
)


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.capture.then_train", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train/")
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args(argv)
    for line in lines(measured(flags.bundle, flags.data, flags.rounds)):
        print(line)
    return 0


def measured(bundle: Path, data: Path, rounds: int) -> dict[str, list[tuple[int, int]]]:
    """Return (measured, planned) bytes of every round of each way."""
    found: dict[str, list[tuple[int, int]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        camera = write_video(folder / "camera.avi", files_below(data / "train"))
        taking = ["--camera", str(camera), "--classes", CLASSES, "--per-class", str(PER_CLASS)]
        for number in range(rounds):
            runs = {
                "train --camera": (TRAIN, [*taking, "--data", str(folder / f"apart{number}")]),
                "train on the same folder": (TRAIN, ["--data", str(folder / f"apart{number}")]),
                "taken in one process": (
                    TOGETHER + TRAIN,
                    [*taking, "--data", str(folder / f"together{number}")],
                ),
            }
            for way, (script, words) in runs.items():
                with tempfile.TemporaryDirectory() as out:
                    found.setdefault(way, []).append(
                        _memory(script, bundle, words, Path(out) / "run")
                    )
    return found


def write_video(path: Path, files: list[Path], seconds: float = SECONDS) -> Path:
    """Write a video of real pictures, as MJPEG."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (WIDTH, HEIGHT))  # type: ignore[attr-defined]
    for shot in video(files, 0, seconds):
        writer.write(shot.pixels[..., ::-1])
    writer.release()
    return path


def _memory(script: str, bundle: Path, words: list[str], out: Path) -> tuple[int, int]:
    command = [sys.executable, "-c", script, "train", "--bundle", str(bundle), *words, "--yes"]
    command += ["--out", str(out), "--epochs", "1", "--threads", "2", "--json"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    memory: dict[str, Any] = json.loads(done.stdout)["memory"]
    return memory["measured_peak_bytes"], memory["planned_bytes"]


def lines(found: dict[str, list[tuple[int, int]]]) -> list[str]:
    """Say it in words."""
    return [
        f"{way}: {median(peak for peak, _ in rounds) / 1e6:.1f} MB of "
        f"{median(plan for _, plan in rounds) / 1e6:.1f} planned, "
        f"{median(peak / plan for peak, plan in rounds) - 1:+.1%}"
        for way, rounds in found.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
