"""The studio on a board, used by a client there: `python studio_on_board.py FOLDER`.

FOLDER holds `bundle/`, `photos/` with a folder for each class, `camera/`, and `on_board.py`. The
studio is started as a person does, with pictures played as its camera. It is asked for what its
page asks for: to pair, to make classes, to upload and record pictures, to answer live, to teach, to
train, to give versions and the network. The memory of its process and of the training's is read
meanwhile. Writes `FOLDER/results.json`. Needs what the board has: the installed package with its
extra `studio`, the standard library, Python 3.8.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import platform
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from on_board import MOBILETL, SAMPLE_S, resident

RECORDED, EPOCHS = 2, 1
# An emulated processor is some fifty times slower than the one that it runs on.
PATIENCE_S = 1800.0
ADDRESS = re.compile(r"http://[\w.:\[\]-]+:(\d+)/")
CODE = re.compile(r"its code is (\d{4}) (\d{4})")
# What the server imports, and then waits for its memory to be read.
LIBRARIES = """
import onnxruntime, numpy, PIL, safetensors, starlette, uvicorn, segno
import mobiletl.device.studio_server, mobiletl.device.studio.server, numpy.random
import mobiletl.device.sessions.onnxruntime, anyio._backends._asyncio, uvicorn.loops.auto
print("imported", flush=True)
input()
"""


def main(folder: Path) -> None:
    libraries = imported_bytes()
    with served(folder) as studio:
        results = used(studio, folder)
    results.update(
        machine=platform.machine(),
        python=platform.python_version(),
        libraries_bytes=libraries,
        server_bytes=studio.watched.peak,
    )
    (folder / "results.json").write_text(json.dumps(results, indent=1))


class Watched:
    """Reads a process's own memory, without the emulator's, until the process is gone."""

    def __init__(self, pid: int) -> None:
        self.pid, self.peak, self.emulator, self.over = pid, 0, 0, False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.over = True
        self._thread.join()

    def _watch(self) -> None:
        while not self.over:
            own, emulator = resident(self.pid)
            self.peak, self.emulator = max(self.peak, own), max(self.emulator, emulator)
            if not own:
                return
            time.sleep(SAMPLE_S)


class Studio:
    """A client of the server; every answer that is not a success ends the script."""

    def __init__(self, process: subprocess.Popen[str], port: int, code: str) -> None:
        self.process, self.port, self.code = process, port, code
        self.watched = Watched(process.pid)
        self.cookie = ""

    def ask(self, way: str, path: str, body: Any = None, wanted: int = 0) -> bytes:
        """Return the body of the answer; `wanted` is its status where that is no success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        host = f"127.0.0.1:{self.port}"
        headers = {"Origin": f"http://{host}", "X-Mobiletl": "1", "Cookie": self.cookie}
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(way, path, content, headers)
        answer = connection.getresponse()
        said = answer.read()
        given = answer.getheader("Set-Cookie")
        if given:
            self.cookie = given.split(";")[0]
        connection.close()
        if not (answer.status == wanted if wanted else 200 <= answer.status < 300):
            sys.exit(f"{way} {path} was answered with {answer.status}: {said[:500]!r}")
        return said

    def post(self, path: str, **fields: Any) -> Any:
        said = self.ask("POST", f"/api/{path}", fields)
        return json.loads(said) if said else None

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET", "/api/state"))
        return found

    def until(self, what: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the state until it is as wanted."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            state = self.state()
            if met(state):
                return state
            if self.process.poll() is not None:
                sys.exit(f"the studio ended with {self.process.returncode}")
            time.sleep(0.5)
        sys.exit(f"{what}: not within {PATIENCE_S:g} s; the last state is {state}")

    def answer(self) -> dict[str, Any]:
        """Listen until the camera's picture has an answer, and return that."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", "/api/events", headers={"Cookie": self.cookie})
        events = connection.getresponse()
        while True:
            line = events.readline()
            if not line:
                sys.exit("the events ended without an answer")
            if line.startswith(b"data: "):
                found = json.loads(line[6:])
                if isinstance(found, dict) and found.get("labels"):
                    connection.close()
                    return found


def used(studio: Studio, folder: Path) -> dict[str, Any]:
    """Do what a visitor does; returns what there is to check, and the training's memory."""
    studio.ask("POST", "/pair", {"code": "00000000"}, wanted=403)
    studio.ask("GET", "/api/state", wanted=401)
    studio.ask("POST", "/pair", {"code": studio.code})
    studio.ask("GET", "/")
    studio.post("classes", name="recorded")
    for pictures in sorted((folder / "photos").iterdir()):
        studio.post("classes", name=pictures.name)
        for path in sorted(pictures.iterdir()):
            studio.ask("POST", f"/api/pictures?class={pictures.name}", path.read_bytes())
    recorded = record(studio)
    studio.post("classes/delete", name="recorded")
    studio.until("teaching", lambda state: state["teaching"]["state"] == "ready")
    answer = studio.answer()
    taught = studio.post("teach")["id"]
    began = time.monotonic()
    training, child = trained(studio)
    seconds = time.monotonic() - began
    studio.post("versions/use", id=training["version"])
    onnx = studio.ask("GET", f"/api/versions/{training['version']}/onnx")
    kept = studio.ask("GET", f"/api/versions/{taught}/state")
    state = studio.state()
    return {
        "recorded": recorded,
        "classes": {one["name"]: one["count"] for one in state["classes"]},
        "answer": answer,
        "taught": taught,
        "training": training,
        "training_seconds": seconds,
        "training_bytes": child.peak,
        "emulator_bytes": child.emulator,
        "versions": [one["kind"] for one in state["versions"]],
        "using": state["using"],
        "onnx_bytes": len(onnx),
        "state_bytes": len(kept),
    }


def record(studio: Studio) -> int:
    """Hold the button of a class until the camera has given it pictures; returns how many."""

    def held(state: dict[str, Any]) -> bool:
        counts = {one["name"]: one["count"] for one in state["classes"]}
        if counts["recorded"] >= RECORDED:
            return True
        studio.post("record", **{"class": "recorded", "on": True})
        return False

    studio.until("the camera", lambda state: state["camera"]["state"] == "live")
    state = studio.until("recording", held)
    studio.post("record", **{"class": "recorded", "on": False})
    return int({one["name"]: one["count"] for one in state["classes"]}["recorded"])


def trained(studio: Studio) -> tuple[dict[str, Any], Watched]:
    """Train, and watch the process that does."""
    studio.post("train", epochs=EPOCHS, minutes=None)
    watched: list[Watched] = []

    def over(state: dict[str, Any]) -> bool:
        child = training_of(studio.process.pid)
        if child is not None and not watched:
            watched.append(Watched(child))
        return state["training"]["state"] in ("finished", "failed", "stopped")

    state = studio.until("training", over)
    if not watched:
        sys.exit(f"no process trained: {state['training']}")
    watched[0].end()
    training: dict[str, Any] = state["training"]
    # As in on_board.py: between two samples there may have been more, as the process itself says.
    if training["measured_mb"] is not None:
        own = round(1e6 * training["measured_mb"]) - watched[0].emulator
        watched[0].peak = max(watched[0].peak, own)
    return training, watched[0]


def training_of(server: int) -> int | None:
    """Return the process that the server has started to train."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == server and b"train_on_board" in words:
            return int(folder.name)
    return None


def imported_bytes() -> int:
    """Return what an interpreter takes that has imported the server's libraries."""
    command = [sys.executable, "-c", LIBRARIES]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        own, _ = resident(process.pid)
        process.communicate("\n")
    return own


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Studio]:
    """Start the studio for the board's network, so that visitors have to pair."""
    words = [str(MOBILETL), "studio", "--bundle", str(folder / "bundle"), "--threads", "1"]
    words += ["--project", str(folder / "project"), "--camera", str(folder / "camera")]
    words += ["--camera-rate", "1", "--host", "0.0.0.0", "--port", "0"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=sys.stderr, universal_newlines=True
    )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            address, code = ADDRESS.search(said), CODE.search(said)
            if address is not None and code is not None:
                break
        else:
            sys.exit(f"the studio said no address and code: {said}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        listens(int(address[1]))
        studio = Studio(process, int(address[1]), code[1] + code[2])
        try:
            yield studio
        finally:
            studio.watched.end()
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> None:
    """Wait until something does."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.5)
    sys.exit(f"nothing listens at port {port}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
