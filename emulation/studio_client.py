"""A client of the studio on a board: starts it, asks it, reads the memory of its processes.

Copied to the board beside studio_on_board.py. Needs what the board has: the standard library,
Python 3.8.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from on_board import MOBILETL, SAMPLE_S, resident

# An emulated processor is some fifty times slower than the one that it runs on.
PATIENCE_S = 1800.0
ADDRESS = re.compile(r"http://[\w.:\[\]-]+:(\d+)/")
CODE = re.compile(r"its code is (\d{4}) (\d{4})")
# Where there is a group with a limit, the server is put into it, and its training with it.
GROUP = Path("/run/group/cgroup.procs")
LIMITED = f'echo 0 >{GROUP} && exec "$@"'


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
    """The server, and a client of it; every answer that is not a success ends the script."""

    def __init__(self, words: Sequence[Any]) -> None:
        """`words` are the flags of `mobiletl studio`, without a port."""
        self._words = [str(word) for word in (MOBILETL, "studio", *words)]
        self.port, self.cookie, self.watched = 0, "", []
        self.start()

    def start(self) -> None:
        """Start it for the board's network, so that visitors have to pair; on the port it had."""
        words = [*self._words, "--host", "0.0.0.0", "--port", str(self.port)]
        if GROUP.exists():
            words = ["dash", "-c", LIMITED, "limited", *words]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=sys.stderr, universal_newlines=True
        )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            address, code = ADDRESS.search(said), CODE.search(said)
            if address is not None and code is not None:
                break
        else:
            sys.exit(f"the studio said no address and code: {said}")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.port, self.code = int(address[1]), code[1] + code[2]
        listens(self.port)
        self.watched.append(Watched(self.process.pid))

    def kill(self) -> None:
        """End it as a power cut does."""
        self.watched[-1].end()
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.watched[-1].end()
        self.process.terminate()
        self.process.wait()

    def connect(self, way: str, path: str, content: bytes | None = None) -> Any:
        """Return a connection and its answer, of which nothing is read yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        host = f"127.0.0.1:{self.port}"
        headers = {"Origin": f"http://{host}", "X-Mobiletl": "1", "Cookie": self.cookie}
        connection.request(way, path, content, headers)
        return connection, connection.getresponse()

    def ask(self, way: str, path: str, body: Any = None, wanted: int = 0) -> bytes:
        """Return the body of the answer; `wanted` is its status where that is no success."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection, answer = self.connect(way, path, content)
        said: bytes = answer.read()
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

    def training_process(self) -> int | None:
        """Return the process that the server has started to train."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            if parent == self.process.pid and b"train_on_board" in words:
                return int(folder.name)
        return None


def counts(state: dict[str, Any]) -> dict[str, int]:
    """How many pictures each class has."""
    return {one["name"]: one["count"] for one in state["classes"]}


def listens(port: int) -> None:
    """Wait until something does."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.5)
    sys.exit(f"nothing listens at port {port}")
