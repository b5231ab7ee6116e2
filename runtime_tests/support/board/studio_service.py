"""A real studio on loopback, served by a thread or by a process, and a real client for it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import httpx

from mobiletl.device.cameras.base import Wanted
from mobiletl.device.studio.server import Place, StudioServer
from mobiletl.device.studio.studio import Asked, Studio
from runtime_tests.support.board.picture_folders import write_pictures

LOOPBACK = "127.0.0.1"
PATIENCE = 60.0


class Client(httpx.Client):
    """Sends what the page sends."""

    def __init__(self, port: int, **options: Any) -> None:
        address = f"http://{LOOPBACK}:{port}"
        headers = {"Origin": address, "X-Mobiletl": "1", **options.pop("headers", {})}
        super().__init__(base_url=address, headers=headers, timeout=PATIENCE, **options)
        self.port = port

    def opened(self) -> Client:
        """Open the page as a browser does, which gives a session on loopback."""
        answer = self.get("/")
        assert answer.status_code == 200, answer.text
        return self

    def ask(self, path: str, status: int = 0, **document: Any) -> Any:
        """POST a document to /api/`path`; check the status, by default any success."""
        answer = self.post(f"/api/{path}", json=document)
        assert answer.status_code == status or (not status and answer.is_success), answer.text
        return answer.json() if answer.content else None

    def add(self, class_name: str, content: bytes) -> httpx.Response:
        """Upload a picture."""
        return self.post("/api/pictures", params={"class": class_name}, content=content)

    def state(self) -> dict[str, Any]:
        """Return the state."""
        answer = self.get("/api/state")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait(self, met: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE) -> Any:
        """Return the state once it has come so far."""
        until = time.monotonic() + seconds
        while True:
            found = self.state()
            if met(found):
                return found
            assert time.monotonic() < until, str(found)[:2000]
            time.sleep(0.05)

    def teach(self, folder: Path) -> dict[str, Any]:
        """Upload the pictures of a folder by class, and wait until they are learned."""
        for path in sorted(folder.glob("*/*")):
            if path.parent.name not in {one["name"] for one in self.state()["classes"]}:
                self.ask("classes", name=path.parent.name)
            assert self.add(path.parent.name, path.read_bytes()).status_code in (200, 201)
        found: dict[str, Any] = self.wait(lambda state: state["teaching"]["state"] == "ready")
        return found


@contextlib.contextmanager
def served(
    bundle: Path,
    project: Path,
    camera: Path | str | None = None,
    host: str = LOOPBACK,
    wanted: Wanted = Wanted(rate=20),  # noqa: B008 - it cannot be changed
    blocks: int | None = None,
) -> Iterator[StudioServer]:
    """Serve a studio in a thread of this process, at a free port."""
    source = None if camera is None else str(camera)
    asked = Asked(bundle, project, source, wanted, threads=1, blocks=blocks)
    with Studio(asked) as studio:
        server = StudioServer(studio, Place(host, 0))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            _wait_for(server.port)
            yield server
        finally:
            server.stop()
            thread.join(20)
            assert not thread.is_alive()


class Process:
    """A studio in a process of its own, as `mobiletl studio` starts it."""

    def __init__(self, bundle: Path, project: Path, *words: str, port: int = 0) -> None:
        self.port = port or free_port()
        command = [sys.executable, "-m", "mobiletl.device.studio_server"]
        command += ["--bundle", str(bundle), "--project", str(project), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--threads", "1", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            _wait_for(self.port, self.process)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> str:
        """End it as a power cut does; return what it has printed."""
        self.process.kill()
        return self.process.communicate()[0].decode()

    def end(self) -> str:
        """End it as systemd does; return what it has printed."""
        self.process.terminate()
        printed = self.process.communicate(timeout=30)[0].decode()
        assert self.process.returncode == 0, printed
        return printed


def cameras_folder(folder: Path) -> Path:
    """Write six pictures of two colours that are played as a camera."""
    return write_pictures(folder, {"red": 3, "green": 3})


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
            return
        assert time.monotonic() < until, "the server does not listen"
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[0].decode())
        time.sleep(0.05)
