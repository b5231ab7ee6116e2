"""The costs as aligned lines and as CSV; what was measured and what was planned stay apart."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from bench.cost.costs import Cost
from mobiletl.device.printable import aligned

COLUMNS = (
    "sweep",
    "form",
    "blocks",
    "batch",
    "resolution",
    "step_ms_per_picture",
    "frozen_ms_per_picture",
    "measured_peak_mb",
    "planned_peak_mb",
)
HEAD = (
    "sweep",
    "step on",
    "blocks",
    "batch",
    "px",
    "step, ms a picture",
    "frozen layers, ms a picture",
    "peak MB, measured",
    "peak MB, planned",
)


def table_lines(costs: Sequence[Cost]) -> list[str]:
    """MB are 1e6 bytes."""
    cells = [
        (
            cost.sweep,
            cost.form,
            *map(str, _case(cost)),
            *(f"{value:.2f}" for value in _times(cost)),
            *(f"{value:.1f}" for value in _peaks(cost)),
        )
        for cost in costs
    ]
    return aligned([HEAD, *cells], right=range(2, len(HEAD)))


def write_csv(costs: Sequence[Cost], path: Path) -> None:
    """Milliseconds, and MB of 1e6 bytes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for cost in costs:
            values = (f"{value:.3f}" for value in (*_times(cost), *_peaks(cost)))
            writer.writerow([cost.sweep, cost.form, *_case(cost), *values])


def _case(cost: Cost) -> tuple[int, int, int]:
    return cost.case.blocks, cost.case.batch, cost.case.resolution


def _times(cost: Cost) -> tuple[float, float]:
    return cost.step_ms, cost.frozen_ms


def _peaks(cost: Cost) -> tuple[float, float]:
    return cost.measured_bytes / 1e6, cost.planned_bytes / 1e6
