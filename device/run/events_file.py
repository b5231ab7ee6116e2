"""`events.jsonl`: what happened in a run, a line of JSON each, for programs that follow it.

A line goes to the system whole, in one write, as soon as the event is heard: a killed process loses
none. Lines that matter after a power cut (of starts, saves and ends, and all before them) are
forced to the disk, others are not: that would wear an SD card down. An epoch that was not saved is
trained again, and told again. A line that a power cut has torn is the last of its call; the next
call starts a new one. docs/events.md is the schema.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.replacing import open_appended
from mobiletl.device.bundle.wear import sync, write_all
from mobiletl.device.refusals import cannot_read, cannot_write
from mobiletl.device.run.events import NAMES, Ended, Event, Part, Saved, Started, Step
from mobiletl.device.run.lines import read_lines, sealed
from mobiletl.device.run.listener import Listener

# Raised when a reader would misunderstand the lines.
VERSION = 1
# Steps and parts come many a second; a line a second is enough to follow them.
SECONDS_BETWEEN = 1.0
FREQUENT = (Step, Part)
LASTING = (Started, Saved, Ended)


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
            write_all(descriptor, line_of(event))
            if isinstance(event, LASTING):
                sync(descriptor)
            if isinstance(event, Ended):
                self.close()
        except OSError as error:
            raise cannot_write("the record of events", self._path, error) from error

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = open_appended(self._path)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                write_all(self._descriptor, b"\n")  # a torn line keeps to itself
        return self._descriptor


def line_of(event: Event) -> bytes:
    """Return the line of an event: what every line has, then what this kind has."""
    document: dict[str, Any] = {
        "version": VERSION,
        "event": NAMES[type(event)],
        "time": round(time.time(), 3),
        **event.document(),
    }
    return sealed(document)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file as objects; what is torn, damaged or no event is left out."""
    try:
        found = read_lines(path)
    except OSError as error:
        raise cannot_read("the record of events", path, error) from error
    return [document for document in found if isinstance(document.get("event"), str)]
