"""The Pareto picture: accuracy against measured memory, and against time per training picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from runtime_tests.bench.accuracy.grid import Row
from runtime_tests.bench.accuracy.table import memory_front, time_front

FRONT, OTHERS = "tab:red", "tab:gray"


def draw_fronts(rows: Sequence[Row], path: Path, title: str) -> None:
    """Two panels in one PNG; bars span the seeds, a line joins the front."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    memory = [row.peak_bytes / 1e6 for row in rows]
    _panel(left, rows, memory, memory_front(rows))
    left.set_xlabel("measured peak of the process, MB (1e6 bytes)")
    left.set_ylabel("accuracy after the last epoch, %")
    shown = [row for row in rows if row.best_speed]
    time_ms = [1e3 / row.best_speed for row in shown]
    _panel(right, shown, time_ms, time_front(shown))
    right.set_xscale("log")
    right.set_xlabel("measured time per training picture, ms (cached maps where there are any)")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, rows: Sequence[Row], costs: Sequence[float], front: Sequence[bool]) -> None:
    percent = [100 * row.accuracy for row in rows]
    points = zip(costs, percent, front, strict=True)
    joined = sorted((cost, mean) for cost, mean, on in points if on)
    axes.plot(*zip(*joined, strict=True), color=FRONT, linewidth=1)
    for cost, row, on in zip(costs, rows, front, strict=True):
        mean = 100 * row.accuracy
        span = [[mean - 100 * min(row.accuracies)], [100 * max(row.accuracies) - mean]]
        axes.errorbar(cost, mean, span, fmt="o", color=FRONT if on else OTHERS, capsize=3)
        axes.annotate(str(row.subject), (cost, mean), xytext=(5, 4), textcoords="offset points")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
