"""Shows a run: one line that is rewritten on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import TextIO

from mobiletl.device.memory.measured import resident_bytes
from mobiletl.device.memory.plan import table
from mobiletl.device.neighbour.changes import Continued, Paused
from mobiletl.device.pictures.dataset import Dataset
from mobiletl.device.printable import aligned, printable
from mobiletl.device.run.duration import duration
from mobiletl.device.run.events import (
    Epoch,
    EpochMetrics,
    Event,
    Expected,
    Note,
    Part,
    Started,
    Step,
)
from mobiletl.device.run.listener import Listener

# A slow serial console should not slow the training down.
REFRESH_S = 0.2
# So many classes and skipped files are named before training; the reports have all.
CLASS_LIMIT = 20
SKIPPED_LIMIT = 5
CLEAR_LINE = "\r\x1b[K"
# ISO 8601, as journals and log collectors read it.
TIMESTAMP = "%Y-%m-%dT%H:%M:%SZ "


class Terminal(Listener):
    """Writes to `stream`, standard error as a rule.

    A stream that breaks (a closed terminal) ends the showing, not the training.
    """

    def __init__(self, stream: TextIO, timestamps: bool = False) -> None:
        """Write nothing yet; `timestamps` are for lasting lines, in UTC."""
        self._stream = stream
        self._timestamps = timestamps
        self._live = stream.isatty()
        self._shown_at = 0.0
        self._epochs = 0
        self._steps_per_epoch = 0

    def hear(self, event: Event) -> None:
        """Show `event`."""
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, (Note, Paused, Continued)):
            self._note(event.text)
        elif isinstance(event, Part):
            self._show(f"{event.name} {event.done}/{event.total} pictures")
        elif isinstance(event, Expected):
            self._note(f"expected to take {duration(event.seconds)}, {self._epochs} epochs")
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Epoch):
            self._note(epoch_line(event.metrics, self._epochs))

    def _start(self, started: Started) -> None:
        self._epochs, self._steps_per_epoch = started.epochs, started.steps_per_epoch
        dataset = started.dataset
        counts = f"{len(dataset.train)} pictures to train on, {len(dataset.val)} to validate on"
        self._note(f"{len(dataset.class_names)} classes, {counts}, {len(dataset.skipped)} skipped")
        if dataset.layout:
            self._note(f"layout: {dataset.layout}")
        for line in class_lines(dataset):
            self._note(line)
        for entry in dataset.skipped[:SKIPPED_LIMIT]:
            self._note(f"skipped: {entry.path}: {entry.reason}")
        if len(dataset.skipped) > SKIPPED_LIMIT:
            self._note(f"skipped: and {len(dataset.skipped) - SKIPPED_LIMIT} more")
        for note in dataset.notes:
            self._note(f"note: {note}")
        for line in table(started.plan).splitlines():
            self._note(line)

    def _step(self, step: Step) -> None:
        cells = [
            f"epoch {step.epoch}/{self._epochs}",
            f"step {step.step_of_epoch}/{self._steps_per_epoch}",
            f"loss {step.loss:.3f}",
            f"accuracy {step.accuracy:.1%}",
            f"{step.pictures_per_s:.1f} pictures/s",
        ]
        self._show("  ".join(cells), step.seconds_left)

    def _note(self, text: str) -> None:
        """Write a lasting line."""
        when = time.strftime(TIMESTAMP, time.gmtime()) if self._timestamps else ""
        self._write(f"{CLEAR_LINE if self._live else ''}{when}{self._safe(text)}\n")

    def _show(self, text: str, seconds_left: float | None = None) -> None:
        """Rewrite the live line, if there is one and it is time."""
        now = time.monotonic()
        if not self._live or now - self._shown_at < REFRESH_S:
            return
        self._shown_at = now
        line = f"{text}  {resident_bytes() / 1e6:.0f} MB"
        if seconds_left is not None:
            line += f"  {duration(seconds_left)} left"
        columns = shutil.get_terminal_size().columns
        self._write(CLEAR_LINE + self._safe(line)[: columns - 1])

    def _safe(self, text: str) -> str:
        return printable(text, self._stream.encoding)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def class_lines(dataset: Dataset) -> list[str]:
    """Return how many pictures of each class there are to train and to validate on."""
    counts = list(dataset.counts().items())
    rows = [("class", "train", "validate")]
    rows += [(printable(name), str(train), str(val)) for name, (train, val) in counts[:CLASS_LIMIT]]
    lines = aligned(rows, right=(1, 2))
    if len(counts) > CLASS_LIMIT:
        lines.append(f"and {len(counts) - CLASS_LIMIT} more classes")
    return lines


def epoch_line(row: EpochMetrics, epochs: int) -> str:
    """Return the lasting line of an epoch; epoch 0 is the state before training."""
    cells = [f"epoch {row.epoch}/{epochs}" if row.epoch else "before training"]
    if row.train_loss is not None and row.train_accuracy is not None:
        cells.append(f"train loss {row.train_loss:.3f} accuracy {row.train_accuracy:.1%}")
    cells.append(f"val loss {row.val_loss:.3f} accuracy {row.val_accuracy:.1%}")
    if row.pictures_per_s is not None:
        cells.append(f"{row.pictures_per_s:.1f} pictures/s")
    cells.append(f"{row.rss_bytes / 1e6:.0f} MB (peak {row.peak_bytes / 1e6:.0f})")
    cells.append(duration(row.seconds))
    return "  ".join(cells)


def new_run_folder() -> Path:
    """Name a folder for a run that a person has given none."""
    return Path("runs") / time.strftime("%Y%m%d-%H%M%S")
