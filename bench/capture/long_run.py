"""Whether a long capture grows: `mobiletl capture` on tens of thousands of frames, watched.

    python -m bench.capture.long_run --data sets/animals4 --frames 50000

A folder is played as the camera, as fast as it is read. What it shows comes from the videos that
docs/capture.md measures the choice of frames by; each of their frames is seen 20 times, so
that pictures are kept until the end. Memory and descriptors are read twice a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from PIL import Image

from bench.capture.videos import HEIGHT, WIDTH, Shot, video
from bench.live.long_run import Growth, Sample, growth_of, memory_lines, sample
from mobiletl.device.commands.table import guarded
from mobiletl.device.pictures.dataset import files_below

REPEATED, SECONDS, EVERY_S = 20, 12.0, 0.5
# More than are kept, so that the folder's end is the run's.
GOAL = 10**6


def main(argv: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.capture.long_run", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder with train/")
    add("--frames", type=int, default=50_000)
    flags = parser.parse_args(argv)
    return guarded(lambda: _print(long_capture(files_below(flags.data / "train"), flags.frames)))


def long_capture(files: list[Path], frames: int, every_s: float = EVERY_S) -> Growth:
    """Let `mobiletl capture` look at so many frames made of `files`; `end` is what it printed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_frames(folder, files, frames)
        words = [
            sys.executable,
            "-m",
            "mobiletl.device.capture",
            "--camera",
            str(folder / "played"),
        ]
        words += ["--class", "all", "--data", str(folder / "kept"), "--count", str(GOAL), "--json"]
        samples: list[Sample] = []
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            began = time.monotonic()
            while process.poll() is None:
                # The end says how many frames the milliseconds until here stand for.
                looked_at = sample(process.pid, round(1000 * (time.monotonic() - began)))
                samples += [] if looked_at is None else [looked_at]
                time.sleep(every_s)
            seconds = time.monotonic() - began
            assert process.stdout is not None
            end = json.loads(process.stdout.read())
        share = end["frames"] / (1000 * seconds)
        numbered = [replace(one, frame=round(share * one.frame)) for one in samples]
        end.update(
            seconds=seconds, bytes=sum(f.stat().st_size for f in files_below(folder / "kept"))
        )
        return growth_of(numbered, end, process.returncode)


def _write_frames(folder: Path, files: list[Path], frames: int) -> None:
    """Write what the camera sees, and a link to it for each time that it is seen."""
    (folder / "seen").mkdir()
    (folder / "played").mkdir()
    for row, shot in enumerate(islice(_shots(files), -(-frames // REPEATED))):
        seen = folder / "seen" / f"{row}.jpg"
        Image.fromarray(shot.pixels).resize((WIDTH // 2, HEIGHT // 2)).save(seen, quality=90)
        for number in range(row * REPEATED, min((row + 1) * REPEATED, frames)):
            (folder / "played" / f"{number:06}.jpg").symlink_to(seen)


def _shots(files: list[Path]) -> Iterator[Shot]:
    """Yield the frames of one video after another."""
    for seed in count():
        yield from video(files, seed, SECONDS)


def _print(growth: Growth) -> int:
    end = growth.end
    print(
        f"{end['frames']} frames in {end['seconds']:.0f} s, {end['kept']} kept, "
        f"{end['bytes'] / 1e6:.1f} MB on the disk, exit code {growth.exit_code}"
    )
    print("\n".join(memory_lines(growth)))
    return growth.exit_code


if __name__ == "__main__":
    sys.exit(main())
