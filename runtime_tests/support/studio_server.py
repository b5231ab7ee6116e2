"""A studio as a person starts it: the command, in a process of its own, on real pictures."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MOBILETL = Path(sys.executable).with_name("mobiletl")
ADDRESS = re.compile(r"http://[\w.:\[\]-]+:(\d+)")
CODE = re.compile(r"\b(\d{4}) ?(\d{4})\b")
STARTS_SECONDS = 60


@dataclass
class Studio:
    """One that serves; `lines` is what it has printed so far."""

    project: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def said(self) -> str:
        return "".join(self.lines)

    @property
    def address(self) -> str:
        """Its page, asked from this machine."""
        found = ADDRESS.search(self.said)
        return f"http://127.0.0.1:{found[1]}" if found else ""

    def end(self) -> None:
        """Press Ctrl-C, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def code(self) -> str:
        """The pairing code."""
        found = CODE.search(ADDRESS.sub("", self.said))
        assert found is not None, self.said
        return found[1] + found[2]


@contextlib.contextmanager
def studio(bundle: Path, project: Path, *flags: str) -> Iterator[Studio]:
    """Start `mobiletl studio` on a port of its own choice; it has ended when this is over."""
    command = [str(MOBILETL), "studio", "--bundle", str(bundle), "--project", str(project)]
    process = subprocess.Popen(
        [*command, "--threads", "1", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    started = Studio(project, process)
    reader = threading.Thread(target=_read, args=(started,), daemon=True)
    reader.start()
    try:
        until = time.monotonic() + STARTS_SECONDS
        while not started.address:
            assert process.poll() is None, f"the studio ended: {started.said}"
            assert time.monotonic() < until, f"the studio did not start: {started.said}"
            time.sleep(0.05)
        yield started
    finally:
        started.end()
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


def _read(started: Studio) -> None:
    assert started.process.stdout is not None
    for line in started.process.stdout:
        started.lines.append(line)
