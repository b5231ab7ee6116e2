"""Runs that are done, one JSON line each: what was asked for, and what came out."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from mobiletl.core.errors import NoSpace


@dataclass(frozen=True)
class Key:
    """Everything a run's figures depend on, but for the machine. `use` says what it was for."""

    use: str
    bundle: str
    """The manifest's id: graphs, weights, method, blocks, resolution, optimizer, runner."""
    pictures: str
    """Fingerprint of the data set."""
    seed: int
    epochs: int
    batch: int
    lr: float
    augment: bool
    cached: bool
    threads: int
    runtime_release: str

    @property
    def digest(self) -> str:
        """Short, for names of files."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


@dataclass(frozen=True)
class Outcome:
    """What a run's own report says; shares, bytes, seconds. `diverged` leaves the lists empty."""

    accuracies: tuple[float, ...]
    """On the validation pictures after each epoch."""
    losses: tuple[float, ...]
    """Mean cross-entropy of the same."""
    pictures_per_s: tuple[float, ...]
    """Of each epoch's training, evaluation not counted."""
    peak_bytes: int
    """Measured, of the whole process."""
    planned_bytes: int
    seconds: float
    diverged: bool = False

    @property
    def accuracy(self) -> float:
        """After the last epoch; 0 for a run that diverged."""
        return self.accuracies[-1] if self.accuracies else 0.0

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is better: by accuracy after the last epoch, and where that is equal by loss."""
        return self.accuracy, -self.losses[-1] if self.losses else -math.inf


class Results:
    """The file of one comparison; it only grows."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a line that was cut off is left out."""
        self._path = path
        self._found: dict[Key, Outcome] = {}
        if path.exists():
            for line in path.read_text("utf-8", errors="replace").splitlines():
                self._take(line)

    def find(self, key: Key) -> Outcome | None:
        """What came out of that run, if it was ever done."""
        return self._found.get(key)

    def add(self, key: Key, outcome: Outcome) -> None:
        """Keep a run; it is on the disk when this returns. Raises NoSpace."""
        line = json.dumps({"key": asdict(key), "outcome": asdict(outcome)}) + "\n"
        try:
            whole = not self._path.exists() or self._path.read_bytes()[-1:] in (b"", b"\n")
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line if whole else f"\n{line}")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NoSpace(f"can't write {self._path}: {error.strerror or error}") from error
        self._found[key] = outcome

    def _take(self, line: str) -> None:
        try:
            row = json.loads(line)
            values = row["outcome"]
            for name in ("accuracies", "losses", "pictures_per_s"):
                values[name] = tuple(values[name])
            self._found[Key(**row["key"])] = Outcome(**values)
        except (ValueError, KeyError, TypeError):
            return
