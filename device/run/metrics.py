"""One line of JSON per epoch, in a file that other programs can follow while it grows."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.replacing import open_appended, replacing
from mobiletl.device.bundle.schema import integer, number
from mobiletl.device.bundle.wear import write_all
from mobiletl.device.refusals import cannot_read, cannot_write
from mobiletl.device.run.events import Epoch, EpochMetrics, Event, Started
from mobiletl.device.run.lines import read_lines, sealed
from mobiletl.device.run.listener import Listener

# Epoch 0 is the state before training, of which there is none of these.
OF_TRAINING = ("train_loss", "train_accuracy", "lr", "pictures_per_s")
COUNTS = ("epoch", "step", "rss_bytes", "peak_bytes")
_WHOLE = integer()
# No figure of a run comes near.
_FIGURE = number(minimum=-1e18, maximum=1e18)


class MetricsFile(Listener):
    """The lines of a run, in the order of the epochs."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self.path = path

    def hear(self, event: Event) -> None:
        """Add a line for an epoch; drop, at a start, what is about to be written again."""
        if isinstance(event, Started):
            self.keep_before(event.position.epoch + (event.position.before is not None))
        elif isinstance(event, Epoch):
            self.append(event.metrics)

    def rows(self) -> list[EpochMetrics]:
        """Read the lines; what was cut off or changed is left out, and the log says so."""
        try:
            found = read_lines(self.path)
        except OSError as error:
            raise cannot_read("the metrics", self.path, error) from error
        rows = [_row(values) for values in found]
        return [row for row in rows if row is not None]

    def keep_before(self, epoch: int) -> None:
        """Drop `epoch` and later ones, which a resumed run is about to write again."""
        kept = [row for row in self.rows() if row.epoch < epoch]
        try:
            if not self.path.parent.is_dir():
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as file:
                file.write(b"".join(sealed(asdict(row)) for row in kept))
        except OSError as error:
            raise cannot_write("the metrics", self.path, error) from error

    def append(self, row: EpochMetrics) -> None:
        """Add a line; raises NoSpace.

        It reaches the disk at the latest before the state of its epoch does (checkpoints.py): the
        epochs after that are trained again, and their lines are written again.
        """
        line = sealed(asdict(row))
        try:
            descriptor = open_appended(self.path)
            try:
                write_all(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write("the metrics", self.path, error) from error


def _row(values: dict[str, Any]) -> EpochMetrics | None:
    """Return the figures of a line, None where they are none."""
    named: dict[str, Any] = {field.name: values.get(field.name) for field in fields(EpochMetrics)}
    problems: list[str] = []
    for name, value in named.items():
        if value is not None or name not in OF_TRAINING:
            (_WHOLE if name in COUNTS else _FIGURE)(value, name, problems)
    return None if problems else EpochMetrics(**named)
