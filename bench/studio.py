"""What the studio's server takes of memory, and how soon it answers.

    python -m bench.studio --bundle artifacts/mbv2 --data sets/trashnet6

The server runs as `mobiletl studio` does, with pictures of the set as its camera. A page listens
and looks through the camera all the time, 3 classes of 20 pictures are uploaded and taught, then
large pictures as phones write them (studio_uploads.py), and then trained for 3 epochs. The
baseline is a process that has imported what the server imports.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.defaults.cells import find_set, pictures_in
from bench.studio_uploads import Upload, status, upload_large
from mobiletl.device.commands.table import guarded

CLASSES, PICTURES, EPOCHS = 3, 20, 3
RATE = 10
LIBRARIES = """
import onnxruntime, numpy, PIL, safetensors, starlette, uvicorn, segno
import mobiletl.device.studio_server, mobiletl.device.studio.server, numpy.random
import mobiletl.device.sessions.onnxruntime, anyio._backends._asyncio, uvicorn.loops.auto
print(open("/proc/self/status").read())
"""


@dataclass(frozen=True)
class Measured:
    """Bytes of the server's process, seconds, and the training as the page sees it."""

    libraries_bytes: int
    peak_bytes: int
    resident_bytes: int
    training_peak_bytes: int
    ready_seconds: float
    one_seconds: float
    answers_per_second: float
    training: dict[str, Any]
    large: list[Upload]

    @property
    def above_bytes(self) -> int:
        """What a server in use takes more than the interpreter with its libraries."""
        return self.peak_bytes - self.libraries_bytes


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.studio")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    flags = parser.parse_args(argv)
    return guarded(lambda: _print(measure(flags.bundle, flags.data)))


def measure(bundle: Path, data: Path) -> Measured:
    """Run a server as above, and measure it."""
    found = find_set(data)
    by_class = {name: pictures_in(found.train / name) for name in found.class_names[:CLASSES]}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        camera = folder / "camera"
        camera.mkdir()
        for name, paths in by_class.items():
            for number, path in enumerate(paths[PICTURES : 2 * PICTURES]):
                (camera / f"{number:03}-{name}{path.suffix}").write_bytes(path.read_bytes())
        port = _free_port()
        command = [sys.executable, "-m", "mobiletl.device.studio_server", "--port", str(port)]
        command += ["--bundle", str(bundle), "--project", str(folder / "project")]
        server = subprocess.Popen([*command, "--camera", str(camera), "--camera-rate", str(RATE)])
        opened.callback(server.wait)
        opened.callback(server.terminate)
        return _use(port, server.pid, by_class)


def _use(port: int, pid: int, by_class: dict[str, list[Path]]) -> Measured:
    address = f"http://127.0.0.1:{port}"
    headers = {"Origin": address, "X-Mobiletl": "1"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        _until(lambda: _answers(client))
        client.get("/").raise_for_status()
        rates: list[float] = []
        threading.Thread(target=_listen, args=(client, rates), daemon=True).start()
        threading.Thread(target=_look, args=(client,), daemon=True).start()
        for name in by_class:
            client.post("/api/classes", json={"name": name}).raise_for_status()
        for number, name in itertools.product(range(PICTURES), by_class):
            content = by_class[name][number].read_bytes()
            client.post("/api/pictures", params={"class": name}, content=content)
        began = time.monotonic()
        _until(lambda: _state(client)["teaching"]["state"] == "ready")
        ready = time.monotonic() - began
        one = _one_more(client, by_class)
        name, paths = next(iter(by_class.items()))
        large = upload_large(client, pid, name, paths[0])
        _until(lambda: _state(client)["teaching"]["state"] == "ready")
        time.sleep(5)
        used, resident = status(pid, "VmHWM"), status(pid, "VmRSS")
        fps = statistics.median(rates[-10:])
        client.post("/api/train", json={"epochs": EPOCHS}).raise_for_status()
        ended = ("finished", "failed", "stopped")
        _until(lambda: _state(client)["training"]["state"] in ended, 900)
        peak = status(pid, "VmHWM")
        training = _state(client)["training"]
        return Measured(_libraries(), used, resident, peak, ready, one, fps, training, large)


def _one_more(client: httpx.Client, by_class: dict[str, list[Path]]) -> float:
    """Return the median of seconds from a picture's upload until the classifier knows it."""
    seconds = []
    name, paths = next(iter(by_class.items()))
    for path in paths[2 * PICTURES : 2 * PICTURES + 5]:
        began = time.monotonic()
        client.post("/api/pictures", params={"class": name}, content=path.read_bytes())
        _until(lambda: _state(client)["teaching"]["state"] == "ready")
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def _libraries() -> int:
    printed = subprocess.run(
        [sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=True
    ).stdout
    return _figure(printed, "VmHWM")


def _listen(client: httpx.Client, rates: list[float]) -> None:
    with client.stream("GET", "/api/events", timeout=None) as events:
        for line in events.iter_lines():
            if line.startswith("data: ") and '"fps"' in line and '"labels"' in line:
                rates.append(json.loads(line[6:])["fps"])


def _look(client: httpx.Client) -> None:
    with client.stream("GET", "/camera.mjpg", timeout=None) as frames:
        for _ in frames.iter_bytes():
            pass


def _state(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/state").json()
    return found


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/static/style.css").is_success
    except httpx.TransportError:
        return False


def _until(met: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not met():
        if time.monotonic() > until:
            raise TimeoutError(f"nothing for {seconds:g} s")
        time.sleep(0.02)


def _figure(status: str, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _print(found: Measured) -> int:
    training = found.training
    rows = (
        ("interpreter with libraries", f"{found.libraries_bytes / 1e6:.1f} MB"),
        ("server in use, peak", f"{found.peak_bytes / 1e6:.1f} MB"),
        ("server in use, at the end", f"{found.resident_bytes / 1e6:.1f} MB"),
        ("server above its libraries", f"{found.above_bytes / 1e6:.1f} MB"),
        ("server after a training", f"{found.training_peak_bytes / 1e6:.1f} MB"),
        ("60 uploads at once, until taught", f"{found.ready_seconds:.2f} s after the last"),
        ("one upload more, until taught", f"{found.one_seconds:.2f} s"),
        ("answers", f"{found.answers_per_second:.1f} a second of {RATE} frames"),
        ("training, planned", f"{training['planned_mb']} MB"),
        ("training, measured", f"{training['measured_mb']} MB, {training['state']}"),
    )
    uploads = [
        (
            f"{one.name}, uploaded",
            f"server's peak {one.server_bytes / 1e6:+.1f} MB, decoder beside it "
            f"{one.beside_bytes / 1e6:.1f} MB, {one.seconds:.2f} s",
        )
        for one in found.large
    ]
    for name, figure in [*rows, *uploads]:
        print(f"{name:34}{figure}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
