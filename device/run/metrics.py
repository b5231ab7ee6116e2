"""One line of JSON per epoch, in a file that other programs can follow while it grows."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.json_lines import read_objects
from mobiletl.device.bundle.schema import integer, number
from mobiletl.device.errors import NoSpace
from mobiletl.device.printable import printable
from mobiletl.device.run.events import Epoch, EpochMetrics, Event, Started
from mobiletl.device.run.listener import Listener


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
        """Read the lines; one that was cut off by a power loss is left out."""
        found = (_row(values) for values in read_objects(self.path))
        return [row for row in found if row is not None]

    def keep_before(self, epoch: int) -> None:
        """Drop `epoch` and later ones, which a resumed run is about to write again."""
        kept = [row for row in self.rows() if row.epoch < epoch]
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(_line(row) for row in kept)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise self._no_space(error) from error

    def append(self, row: EpochMetrics) -> None:
        """Add a line, on the disk when this returns; raises NoSpace."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._no_space(error) from error

    def _no_space(self, error: OSError) -> NoSpace:
        return NoSpace(
            f"the metrics cannot be written to {printable(str(self.path))} "
            f"({error.strerror or error}); free space there, or choose another folder with --out"
        )


_OF_TRAINING = ("train_loss", "train_accuracy", "lr", "pictures_per_s")
_COUNTS = ("epoch", "step", "rss_bytes", "peak_bytes")
_WHOLE = integer()
_FIGURE = number(minimum=-1e18, maximum=1e18)


def _row(values: dict[str, Any]) -> EpochMetrics | None:
    """Return the figures of a line, None where they are none."""
    named: dict[str, Any] = {field.name: values.get(field.name) for field in fields(EpochMetrics)}
    problems: list[str] = []
    for name, value in named.items():
        if value is not None or name not in _OF_TRAINING:
            (_WHOLE if name in _COUNTS else _FIGURE)(value, name, problems)
    return None if problems else EpochMetrics(**named)


def _line(row: EpochMetrics) -> str:
    return json.dumps(asdict(row), allow_nan=False) + "\n"
