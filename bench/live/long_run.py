"""Many frames through `mobiletl predict --camera` in a process of its own: what it grows by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mobiletl.device.errors import BadPictures
from mobiletl.device.pictures.dataset import files_below

# Until here caches fill and libraries load what they need.
SETTLED_SHARE = 0.1
# The first and the last of the samples after that are compared, so many of them.
COMPARED_SHARE = 0.1
EVERY_S = 0.5


@dataclass(frozen=True)
class Sample:
    """The process after so many frames."""

    frame: int
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """How a run went, from when it had settled."""

    end: dict[str, float]
    """Its last line."""
    exit_code: int
    first: Sample
    """Medians of the first samples, and of the last ones."""
    last: Sample
    peak_bytes: int
    descriptors: tuple[int, ...]
    """All numbers of open descriptors that were seen."""
    threads: tuple[int, ...]

    @property
    def grown_bytes(self) -> int:
        return self.last.resident_bytes - self.first.resident_bytes


def long_run(
    bundle: Path, state: Path, data: Path, frames: int, *more: str, every_s: float = EVERY_S
) -> Growth:
    """Play a folder again and again, or a video; `more` are further flags of `predict`."""
    with tempfile.TemporaryDirectory() as folder:
        source = _played(data, frames, Path(folder))
        words = [sys.executable, "-m", "mobiletl.device.predict", "--bundle", str(bundle)]
        words += ["--state", str(state), "--camera", str(source), *more]
        words += ["--json", "--every", str(every_s), "--frames", str(frames)]
        samples: list[Sample] = []
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for text in process.stdout:
                line = json.loads(text)
                if line["event"] == "answer":
                    looked_at = sample(process.pid, line["frame"])
                    samples += [] if looked_at is None else [looked_at]
                elif line["event"] == "ended":
                    end = line
    return growth_of(samples, end, process.returncode)


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


def sample(process: int, frame: int) -> Sample | None:
    """Look at a process now, which has come to `frame`; None of one that has ended meanwhile."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in status)
    # It stays listed, without memory, until somebody has asked for its exit code.
    if "VmRSS" not in fields:
        return None
    return Sample(
        frame,
        1024 * int(fields["VmRSS"].split()[0]),
        len(os.listdir(f"/proc/{process}/fd")),  # noqa: PTH208 - names alone, no paths
        int(fields["Threads"]),
    )


def growth_of(samples: list[Sample], end: dict[str, float], exit_code: int) -> Growth:
    """Compare the samples of a run that is over."""
    settled = [sample for sample in samples if sample.frame >= SETTLED_SHARE * end["frames"]]
    few = max(int(COMPARED_SHARE * len(settled)), 1)
    return Growth(
        end,
        exit_code,
        _median(settled[:few]),
        _median(settled[-few:]),
        max(sample.resident_bytes for sample in settled),
        tuple(sorted({sample.descriptors for sample in settled})),
        tuple(sorted({sample.threads for sample in settled})),
    )


def _median(samples: list[Sample]) -> Sample:
    return Sample(
        round(median(sample.frame for sample in samples)),
        round(median(sample.resident_bytes for sample in samples)),
        round(median(sample.descriptors for sample in samples)),
        round(median(sample.threads for sample in samples)),
    )


def lines(growth: Growth) -> list[str]:
    """Say it in words."""
    end = growth.end
    return [
        f"{end['frames']} frames in {end['seconds']:.0f} s ({end['frames_per_s']} frames/s, "
        f"{end['changes']} changes), exit code {growth.exit_code}",
        *memory_lines(growth),
    ]


def memory_lines(growth: Growth) -> list[str]:
    """Say what the process took, in words."""
    first, last = growth.first, growth.last
    return [
        f"memory {first.resident_bytes / 1e6:.2f} MB around frame {first.frame}, "
        f"{last.resident_bytes / 1e6:.2f} MB around frame {last.frame}: "
        f"{growth.grown_bytes / 1e6:+.2f} MB; most {growth.peak_bytes / 1e6:.2f} MB",
        f"open descriptors {list(growth.descriptors)}, threads {list(growth.threads)}",
    ]
