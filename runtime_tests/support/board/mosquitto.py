"""A real MQTT broker for tests: Debian's `mosquitto`, and its own client to read what it has."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Sequence

import pytest

# A package's daemons are not on every user's PATH.
PLACES = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
SERVER, READER = (
    shutil.which("mosquitto", path=PLACES),
    shutil.which("mosquitto_sub", path=PLACES),
)
needs_mosquitto = pytest.mark.skipif(
    SERVER is None or READER is None, reason="apt-get install mosquitto mosquitto-clients"
)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Mosquitto:
    """A broker in a folder of its own, that can be stopped and started again."""

    def __init__(self, folder: Path, settings: Sequence[str] = ("allow_anonymous true",)) -> None:
        """Listen on the loopback alone; `settings` are lines of mosquitto.conf."""
        self.port = free_port()
        self._reading: tuple[str, ...] = ()
        self._config, self._log = folder / "mosquitto.conf", folder / "mosquitto.log"
        lines = [f"listener {self.port} 127.0.0.1", *settings]
        if os.geteuid() == 0:
            # Else it gives up its rights and cannot read this folder any more.
            lines.insert(0, "user root")
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Return when it answers."""
        assert SERVER is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [SERVER, "-c", str(self._config)], stdout=log, stderr=log
            )
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < until
                time.sleep(0.02)

    def stop(self) -> None:
        """Kill it: what is retained is forgotten."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def read_with(self, *flags: str) -> None:
        """Give `mosquitto_sub` these flags from now on: a login, a certificate."""
        self._reading = flags

    def retained(self, topic: str = "#") -> dict[str, str]:
        """Return what a newcomer is told, by topic."""
        assert READER is not None
        words = [READER, "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-W", "1"]
        done = subprocess.run(
            [*words, "--retained-only", "-F", "%t\t%p", *self._reading],
            capture_output=True,
            text=True,
            check=False,
        )
        # 27: the second is over, as it should be.
        assert done.returncode in (0, 27), done.stderr
        return dict(line.split("\t", 1) for line in done.stdout.splitlines())

    def wait_for(self, topic: str, content: str, seconds: float = 20) -> None:
        """Return when `content` is retained on `topic`."""
        until = time.monotonic() + seconds
        while True:
            found = self.retained(topic).get(topic)
            if found == content:
                return
            assert time.monotonic() < until, (topic, found, content)
