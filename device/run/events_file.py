"""`events.jsonl`: what happened in a run, a line of JSON each, for programs that follow it.

A line goes to the system whole, in one write, as soon as the event is heard: a killed process loses
none. Lines that matter after a power cut (of epochs, saves and ends) are forced to the disk, steps
and parts are not: that would wear an SD card down. A line that a power cut has torn is the last of
its call; the next call starts a new one. docs/events.md is the schema.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.json_lines import read_objects
from mobiletl.device.errors import NoSpace
from mobiletl.device.printable import printable
from mobiletl.device.run.events import NAMES, Ended, Epoch, Event, Part, Saved, Step
from mobiletl.device.run.listener import Listener

# Raised when a reader would misunderstand the lines.
VERSION = 1
# Steps and parts come many a second; a line a second is enough to follow them.
SECONDS_BETWEEN = 1.0
FREQUENT = (Step, Part)
LASTING = (Epoch, Saved, Ended)


class EventsFile(Listener):
    """Appends to a file; a run that is resumed goes on in the same one."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self._path = path
        self._descriptor: int | None = None
        self._written_at: float | None = None

    def hear(self, event: Event) -> None:
        """Write a line; raises NoSpace."""
        now = time.monotonic()
        if isinstance(event, FREQUENT):
            if self._written_at is not None and now - self._written_at < SECONDS_BETWEEN:
                return
            self._written_at = now
        try:
            descriptor = self._open()
            _write(descriptor, line_of(event))
            if isinstance(event, LASTING):
                os.fsync(descriptor)
            if isinstance(event, Ended):
                self.close()
        except OSError as error:
            raise NoSpace(
                f"events cannot be written to {printable(str(self._path))} "
                f"({error.strerror or error}); free space there, or choose another folder with "
                "--out"
            ) from error

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(str(self._path), flags, 0o666)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                _write(self._descriptor, b"\n")  # a torn line keeps to itself
        return self._descriptor


def line_of(event: Event) -> bytes:
    """Return the line of an event: what every line has, then what this kind has."""
    document: dict[str, Any] = {
        "version": VERSION,
        "event": NAMES[type(event)],
        "time": round(time.time(), 3),
        **event.document(),
    }
    return (json.dumps(document, allow_nan=False) + "\n").encode("utf-8")


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file as objects; torn lines and what is no object are left out."""
    return [document for document in read_objects(path) if isinstance(document.get("event"), str)]


def _write(descriptor: int, content: bytes) -> None:
    """Write all of `content`: a full disk may take the beginning of it first."""
    while content:
        content = content[os.write(descriptor, content) :]
