"""Many frames through `mobiletl predict --camera` in a process of its own: what it grows by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.dataset import files_below

# Until here caches fill and libraries load what they need.
SETTLED_SHARE = 0.1
# The first and the last of the samples after that are compared.
COMPARED_SHARE = 0.1
EVERY_S = 0.5


@dataclass(frozen=True)
class Sample:
    """The process after so many frames."""

    frame: int
    resident_bytes: int
    descriptors: int
    threads: int


def long_run(bundle: Path, state: Path, data: Path, frames: int, threads: int) -> int:
    """Play a folder again and again, print how memory went; returns the command's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        source = _played(data, frames, Path(folder))
        words = [sys.executable, "-m", "mobiletl.device.predict", "--bundle", str(bundle)]
        words += ["--state", str(state), "--camera", str(source), "--threads", str(threads)]
        words += ["--json", "--every", str(EVERY_S), "--frames", str(frames)]
        began = time.monotonic()
        samples: list[Sample] = []
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for text in process.stdout:
                line = json.loads(text)
                if line["event"] == "answer":
                    samples.append(_sample(process.pid, line["frame"]))
                elif line["event"] == "ended":
                    end = line
        _print(samples, end, time.monotonic() - began)
        return process.returncode


def _played(data: Path, frames: int, folder: Path) -> Path:
    """Return a video as it is; of a folder, one with links to its pictures, `frames` of them."""
    if data.is_file():
        return data
    files = files_below(data)
    if not files:
        raise BadPictures(f"{data} holds no file to play")
    for number in range(frames):
        (folder / f"{number:06d}.jpg").symlink_to(files[number % len(files)].resolve())
    return folder


def _sample(process: int, frame: int) -> Sample:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status)
    return Sample(
        frame,
        1024 * int(fields["VmRSS"].split()[0]),
        len(os.listdir(f"/proc/{process}/fd")),  # noqa: PTH208 - names alone, no paths
        int(fields["Threads"]),
    )


def _print(samples: list[Sample], end: dict[str, float], seconds: float) -> None:
    settled = [s for s in samples if s.frame >= SETTLED_SHARE * end["frames"]]
    few = max(int(COMPARED_SHARE * len(settled)), 1)
    first, last = settled[:few], settled[-few:]
    before, after = (median(s.resident_bytes for s in part) for part in (first, last))
    print(
        f"{end['frames']} frames in {seconds:.0f} s ({end['frames_per_s']} frames/s, "
        f"{end['changes']} changes)"
    )
    print(
        f"memory {before / 1e6:.2f} MB after {first[0].frame} frames, {after / 1e6:.2f} MB at the "
        f"end: {(after - before) / 1e6:+.2f} MB; most "
        f"{max(s.resident_bytes for s in settled) / 1e6:.2f} MB"
    )
    descriptors = sorted({s.descriptors for s in settled})
    threads = sorted({s.threads for s in settled})
    print(f"open descriptors {descriptors}, threads {threads}")
