"""The comparison as a table for people and as CSV for programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from bench.accuracy.grid import Row
from bench.accuracy.pareto import on_front
from mobiletl.core.errors import NoSpace
from mobiletl.device.printable import aligned

HEAD = (
    "method",
    "blocks",
    "lr",
    "accuracy %",
    "per seed",
    "peak MB",
    "planned MB",
    "pictures/s",
    "on cached maps",
    "front: memory",
    "front: time",
)
COLUMNS = (
    "method",
    "blocks",
    "lr",
    "accuracy",
    "accuracy_per_seed",
    "measured_peak_mb",
    "planned_peak_mb",
    "pictures_per_s",
    "pictures_per_s_cached",
    "on_memory_front",
    "on_time_front",
)


def memory_front(rows: Sequence[Row]) -> list[bool]:
    """Which rows no other beats in accuracy and measured memory."""
    return on_front([(row.peak_bytes, row.accuracy) for row in rows])


def time_front(rows: Sequence[Row]) -> list[bool]:
    """Which rows no other beats in accuracy and time per training picture, caches allowed."""
    return on_front([(-row.best_speed, row.accuracy) for row in rows])


def table_lines(rows: Sequence[Row]) -> list[str]:
    """Aligned lines; memory in MB of 1e6 bytes."""
    marks = zip(memory_front(rows), time_front(rows), strict=True)
    cells = [
        (
            row.subject.method.name,
            "-" if row.subject.blocks is None else str(row.subject.blocks),
            f"{row.lr:g}",
            f"{row.accuracy:.2%}"[:-1],
            " ".join(f"{value:.2%}"[:-1] for value in row.accuracies),
            f"{row.peak_bytes / 1e6:.1f}",
            f"{row.planned_bytes / 1e6:.1f}",
            _rate(row.live_speed),
            _rate(row.cached_speed),
            *("yes" if mark else "no" for mark in pair),
        )
        for row, pair in zip(rows, marks, strict=True)
    ]
    return aligned([HEAD, *cells], right=(1, 2, 3, 5, 6, 7, 8))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write shares, MB and pictures per second, in full; raises NoSpace."""
    marks = zip(memory_front(rows), time_front(rows), strict=True)
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row, pair in zip(rows, marks, strict=True):
                writer.writerow([*_values(row), *("yes" if mark else "no" for mark in pair)])
    except OSError as error:
        raise NoSpace(f"can't write {path}: {error.strerror or error}") from error


def _values(row: Row) -> list[object]:
    return [
        row.subject.method.name,
        row.subject.blocks,
        row.lr,
        row.accuracy,
        " ".join(map(str, row.accuracies)),
        row.peak_bytes / 1e6,
        row.planned_bytes / 1e6,
        row.live_speed,
        row.cached_speed,
    ]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
