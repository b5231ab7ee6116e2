"""A network camera for tests: a process of its own that serves numbered frames as MJPEG.

    python mjpeg_server.py PORT [--first N] [--rate R] [--stall-after N] [--password P] [--black]
        [--clock]

A process can be killed in the middle of a frame, as a camera's power can.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np

from runtime_tests.support.board.numbered_frames import BITS, jpeg, numbered

READY_S = 20.0


class MjpegServer:
    """Starts, kills and restarts the process; a context manager."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}/stream.mjpg"
        self._process: subprocess.Popen[bytes] | None = None
        self.start(*arguments)

    def start(self, *arguments: str) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, __file__, str(self.port), *arguments]
        self._process = subprocess.Popen(command)
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the server does not listen")

    def kill(self) -> None:
        """End it at once, whatever it is sending."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def milliseconds() -> int:
    """Return the time of day as a frame's number can hold it; it begins anew after 65 seconds."""
    return int(time.time() * 1000) % (1 << BITS)


class _Handler(BaseHTTPRequestHandler):
    options: Any

    def do_GET(self) -> None:
        options = self.options
        if options.password:
            secret = base64.b64encode(f"user:{options.password}".encode()).decode()
            if self.headers.get("Authorization") != f"Basic {secret}":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in itertools.count():
            if options.stall_after is not None and number >= options.stall_after:
                time.sleep(3600)
            # The number is of the server, not of the connection, as the time of a camera is.
            with options.lock:
                shown = milliseconds() if options.clock else next(options.numbers)
            pixels = np.zeros_like(numbered(0)) if options.black else numbered(shown)
            picture = jpeg(pixels)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + picture + b"\r\n")
            except OSError:
                return
            time.sleep(1 / options.rate)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


def main() -> None:
    import threading

    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rate", type=float, default=25.0)
    parser.add_argument("--stall-after", type=int)
    parser.add_argument("--password", default="")
    parser.add_argument("--black", action="store_true")
    parser.add_argument("--clock", action="store_true", help="number frames by `milliseconds`")
    options = parser.parse_args()
    options.numbers, options.lock = itertools.count(options.first), threading.Lock()
    _Handler.options = options
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer(("127.0.0.1", options.port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
