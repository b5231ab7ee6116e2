"""Large pictures sent to a studio: what its server grows by, and what decodes them beside it."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image

# Format, megapixels, size: what phones write today. A PNG and a JPEG are reduced while they are
# decoded; of the others, and of a progressive JPEG, a decoder has the whole picture in memory.
KINDS = (
    ("JPEG", 12, (4032, 3024)),
    ("PNG", 12, (4032, 3024)),
    ("HEIC", 12, (4032, 3024)),
    ("HEIC", 24, (5712, 4284)),
    ("WebP", 12, (4032, 3024)),
    ("progressive JPEG", 12, (4032, 3024)),
)
QUALITY = 85
PAUSE = 0.005


@dataclass(frozen=True)
class Upload:
    """One picture: the server's peak grew by `server_bytes` until it was kept and shown small, and
    `beside_bytes` is the peak of the process that decoded it, 0 if there was none.
    """

    name: str
    server_bytes: int
    beside_bytes: int
    seconds: float


def upload_large(client: httpx.Client, pid: int, class_name: str, photo: Path) -> list[Upload]:
    """Send `photo`, enlarged, in each of the kinds to the server with the number `pid`."""
    return [
        _sent(client, pid, class_name, f"{megapixels} MP {kind}", _content(photo, kind, size))
        for kind, megapixels, size in KINDS
    ]


def _sent(client: httpx.Client, pid: int, class_name: str, name: str, content: bytes) -> Upload:
    before = status(pid, "VmHWM")
    with _children(pid) as peaks:
        began = time.monotonic()
        answer = client.post("/api/pictures", params={"class": class_name}, content=content)
        seconds = time.monotonic() - began
    answer.raise_for_status()
    client.get(f"/api/pictures/{answer.json()['id']}/thumbnail").raise_for_status()
    grown = status(pid, "VmHWM") - before
    return Upload(name, grown, max(peaks.values(), default=0), seconds)


@contextlib.contextmanager
def _children(pid: int) -> Iterator[dict[int, int]]:
    """Look at the processes that `pid` starts, many times a second: peak bytes by number."""
    peaks: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(PAUSE):
            for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError, LookupError):
                    for child in map(int, tasks.read_text().split()):
                        # A forked one is the server's copy until it runs its own program.
                        if b"_decode.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                            peaks[child] = status(child, "VmHWM")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()


def _content(photo: Path, kind: str, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    with Image.open(photo) as image:
        large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    if kind == "HEIC":
        import pillow_heif

        pillow_heif.register_heif_opener()
        large.save(out, "HEIF", quality=QUALITY)
    elif kind == "PNG":
        large.save(out, "PNG", compress_level=1)
    elif kind == "WebP":
        large.save(out, "WEBP", quality=QUALITY, method=0)
    else:
        large.save(out, "JPEG", quality=QUALITY, progressive=kind != "JPEG")
    return out.getvalue()


def status(pid: int, key: str) -> int:
    """Return a line of a process's status in bytes; LookupError if it has none any more."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)
