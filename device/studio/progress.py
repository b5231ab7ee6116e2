"""How far a training is, read from its events file as it grows (docs/events.md).

The file may have been cut by a power cut, or edited: what is no line of the schema is passed over.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping

from mobiletl.device.neighbour.changes import HEAT, LOAD
from mobiletl.device.printable import printable

# A line has a few hundred bytes, a `started` one the names of all classes.
LONGEST_LINE = 1_000_000
MOST_READ = 4_000_000
MOST_EPOCHS = 2000
LONGEST_TEXT = 300


@dataclass
class Progress:
    """What the events said last; None is what they did not say yet."""

    started: int = 0
    """How many calls of the run have begun."""
    epoch: int = 0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    seconds_left: float | None = None
    planned_bytes: float | None = None
    measured_bytes: float | None = None
    classes: list[str] = field(default_factory=list)
    pictures: int = 0
    best_accuracy: float | None = None
    outcome: str = ""
    """How the newest call ended, empty while it runs."""
    message: str = ""
    ended_at: float | None = None
    history: dict[int, dict[str, float | None]] = field(default_factory=dict)
    pauses: dict[str, str] = field(default_factory=dict)
    """Why the training pauses at the moment: sentences by reason."""

    def hear(self, line: Mapping[str, Any]) -> None:
        """Take in one line."""
        kind = line.get("event")
        hear = _HEARS.get(kind) if isinstance(kind, str) else None
        if hear is not None:
            hear(self, line)

    def _hear_started(self, line: Mapping[str, Any]) -> None:
        self.started += 1
        self.outcome, self.message, self.ended_at = "", "", None
        self.pauses.clear()
        self.epochs = _count(line, "epochs")
        per_epoch = _count(line, "steps_per_epoch")
        if self.epochs is not None and per_epoch is not None:
            self.steps = self.epochs * per_epoch
        self.epoch, self.step = _count(line, "epoch") or 0, _count(line, "step") or 0
        self.planned_bytes = _number(line, "planned_bytes")
        classes = line.get("classes")
        if isinstance(classes, list):
            self.classes = [name[:200] for name in classes if isinstance(name, str)]
        parts = line.get("pictures")
        if isinstance(parts, dict):
            self.pictures = (_count(parts, "train") or 0) + (_count(parts, "val") or 0)

    def _hear_note(self, line: Mapping[str, Any]) -> None:
        self.message = _text(line, "text")

    def _hear_part(self, line: Mapping[str, Any]) -> None:
        done, total = _count(line, "done"), _count(line, "total")
        if done is not None and total is not None:
            self.message = f"{_text(line, 'name')}: {done} of {total} pictures"

    def _hear_expected(self, line: Mapping[str, Any]) -> None:
        self.seconds_left = _number(line, "seconds")

    def _hear_step(self, line: Mapping[str, Any]) -> None:
        self.epoch = _count(line, "epoch") or self.epoch
        self.step = _count(line, "step") or self.step
        self.loss, self.accuracy = _number(line, "loss"), _number(line, "accuracy")
        left = _number(line, "seconds_left")
        self.seconds_left = self.seconds_left if left is None else left
        self.message = "; ".join(self.pauses.values())

    def _hear_paused(self, line: Mapping[str, Any]) -> None:
        reason, text = _text(line, "reason"), _text(line, "text")
        if reason in (HEAT, LOAD):
            self.pauses[reason] = self.message = text

    def _hear_continued(self, line: Mapping[str, Any]) -> None:
        self.pauses.pop(_text(line, "reason"), None)
        self.message = "; ".join(self.pauses.values())

    def _hear_epoch(self, line: Mapping[str, Any]) -> None:
        epoch = _count(line, "epoch")
        if epoch is None or (epoch not in self.history and len(self.history) >= MOST_EPOCHS):
            return
        # Step lines come once a second at most, and an epoch may be shorter.
        self.epoch, self.step = epoch, _count(line, "step") or self.step
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        # After a crash an epoch may come twice; the later line counts.
        self.history[epoch] = {name: _number(line, name) for name in names}
        self.measured_bytes = _number(line, "peak_bytes") or self.measured_bytes

    def _hear_ended(self, line: Mapping[str, Any]) -> None:
        outcome = line.get("outcome")
        self.outcome = outcome if outcome in ("finished", "stopped", "failed") else "failed"
        self.message = _text(line, "message")
        self.best_accuracy = _number(line, "best_accuracy")
        self.measured_bytes = _number(line, "measured_peak_bytes") or self.measured_bytes
        self.ended_at = _number(line, "time")
        self.epoch, self.step = (
            _count(line, "epoch") or self.epoch,
            _count(line, "step") or self.step,
        )
        self.seconds_left = None


_HEARS: Mapping[str, Callable[[Progress, Mapping[str, Any]], None]] = {
    "started": Progress._hear_started,
    "note": Progress._hear_note,
    "part": Progress._hear_part,
    "expected": Progress._hear_expected,
    "step": Progress._hear_step,
    "epoch": Progress._hear_epoch,
    "paused": Progress._hear_paused,
    "continued": Progress._hear_continued,
    "ended": Progress._hear_ended,
}


class Follower:
    """Reads a file from where it stopped the last time."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self.progress = Progress()
        self._path = path
        self._place, self._file = 0, 0
        self._rest = b""

    def read(self) -> Progress:
        """Take in the lines that are new; a file that is not there has none."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._file or status.st_size < self._place:
                    # It was begun anew.
                    self.progress, self._place, self._rest = Progress(), 0, b""
                    self._file = status.st_ino
                file.seek(self._place)
                content = file.read(MOST_READ)
        except OSError:
            return self.progress
        self._place += len(content)
        *lines, rest = (self._rest + content).split(b"\n")
        self._rest = rest if len(rest) <= LONGEST_LINE else b""
        for line in lines:
            found = _object(line)
            if found is not None:
                self.progress.hear(found)
        return self.progress


def _object(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST_LINE:
        return None
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _number(line: Mapping[str, Any], key: str) -> float | None:
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _count(line: Mapping[str, Any], key: str) -> int | None:
    value = _number(line, key)
    return int(value) if value is not None and 0 <= value < 1e9 else None


def _text(line: Mapping[str, Any], key: str) -> str:
    value = line.get(key)
    return printable(value[:LONGEST_TEXT]) if isinstance(value, str) else ""
