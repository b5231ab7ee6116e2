"""What it costs to look through a camera, and how old its frames are, beside OpenCV alone.

    python -m bench.cameras

A video of 1280 x 720 pixels that OpenCV wrote is read, and a network camera on loopback, which is a
process of its own. Times are processor time, medians of rounds in which both ways
take turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mobiletl.device.cameras.opencv import load_opencv
from mobiletl.device.cameras.stream import open_stream
from runtime_tests.support.board.mjpeg_server import MjpegServer, milliseconds
from runtime_tests.support.board.numbered_frames import BITS, number_of

WIDTH, HEIGHT, FRAMES, ROUNDS = 1280, 720, 200, 9
PAUSE_S, RATE = 3.0, 25.0
SOAK = 50_000
MEGABYTE = 1e6
# Prints bytes of resident memory: with the rooms, with OpenCV, and after some frames.
MEMORY = """\
import sys
import numpy, PIL.Image
from mobiletl.device.cameras.stream import open_stream
from mobiletl.device.cameras.opencv import load_opencv
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
print(resident())
load_opencv()
print(resident())
with open_stream(sys.argv[1]) as stream:
    for _ in range(100):
        stream.read()
    print(resident())
"""


def main() -> int:
    """Print every figure on a line."""
    cv2 = load_opencv()
    with tempfile.TemporaryDirectory() as folder:
        video = _write(cv2, Path(folder) / "clip.avi")
        ratios, costs = [], []
        for _ in range(ROUNDS):
            bare, ours = _seconds(lambda: _bare(cv2, video)), _seconds(lambda: _ours(video))
            ratios.append(ours / bare)
            costs.append(ours / FRAMES * 1000)
        print(f"{WIDTH} x {HEIGHT}: {statistics.median(costs):.1f} ms of processor time a frame")
        print(f"time beside OpenCV alone: {statistics.median(ratios):.2f} ({_span(ratios)})")
        run = [sys.executable, "-c", MEMORY, video]
        words = subprocess.run(run, stdout=subprocess.PIPE, check=True).stdout.split()
        before, loaded, used = (int(word) / MEGABYTE for word in words)
        print(f"memory: {loaded - before:.0f} MB for OpenCV, {used - loaded:.0f} MB for its frames")
        small = _write(cv2, Path(folder) / "small.avi", (160, 120))
        grown, files = _soak(small)
        print(f"after {SOAK} frames: memory {grown:+.2f} MB, descriptors {files:+d}")
    with MjpegServer("--rate", str(RATE), "--clock") as server:
        print(f"age of a frame after a pause of {PAUSE_S:g} s: {_ages(cv2, server)}")
    return 0


def _write(cv2: Any, path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, size)
    noise = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    for number in range(FRAMES):
        writer.write(cv2.resize(np.roll(noise, number, axis=1), size))
    writer.release()
    return str(path)


def _bare(cv2: Any, video: str) -> None:
    capture = cv2.VideoCapture(video, cv2.CAP_FFMPEG)
    for _ in range(FRAMES):
        cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    capture.release()


def _ours(video: str) -> None:
    with open_stream(video) as stream:
        for _ in range(FRAMES):
            stream.read()


def _soak(video: str) -> tuple[float, int]:
    """Read SOAK frames; return by how much resident memory (MB) and open files have grown."""

    def held() -> tuple[float, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096 / MEGABYTE, sum(1 for _ in Path("/proc/self/fd").iterdir())

    _ours(video)
    memory, files = held()
    for _ in range(SOAK // FRAMES):
        _ours(video)
    return held()[0] - memory, held()[1] - files


def _seconds(deed: Callable[[], None]) -> float:
    """Processor time, of all threads: a busy machine does not change it much."""
    began = time.process_time()
    deed()
    return time.process_time() - began


def _ages(cv2: Any, server: MjpegServer) -> str:
    """Seconds since the frames that a reader gets were made."""
    capture = cv2.VideoCapture(server.address, cv2.CAP_FFMPEG)
    bare = _age(lambda: cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    with open_stream(server.address) as stream:
        ours = _age(lambda: stream.read().content)
    return f"OpenCV alone {bare:.2f} s, here {ours:.2f} s"


def _age(read: Callable[[], Any]) -> float:
    for _ in range(10):
        read()
    time.sleep(PAUSE_S)
    made = number_of(read())
    return (milliseconds() - made) % (1 << BITS) / 1000


def _span(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
