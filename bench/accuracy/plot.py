"""The Pareto picture: accuracy against measured memory, and against time per training picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.accuracy.grid import Row
from bench.accuracy.table import memory_front, time_front

COLOURS = colormaps["tab20"]


def draw_fronts(
    rows: Sequence[Row], path: Path, title: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Two panels in one PNG; bars span the seeds, what is on the front is filled and joined.

    Returns what was drawn: MB, and milliseconds per picture, by subject.
    """
    figure = Figure(figsize=(13, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    memory = [row.peak_bytes / 1e6 for row in rows]
    drawn = _panel(left, rows, memory, memory_front(rows))
    left.set_xlabel("measured peak of the process, MB (1e6 bytes)")
    left.set_ylabel("accuracy after the last epoch, %")
    # A subject keeps its colour where one without a time is left out.
    time_ms = [1e3 / row.best_speed if row.best_speed else None for row in rows]
    timed = _panel(right, rows, time_ms, time_front(rows))
    right.set_xscale("log")
    right.set_xlabel("measured time per training picture, ms (cached maps where there are any)")
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", title="filled: on the front")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    return drawn, timed


def _panel(
    axes: Axes, rows: Sequence[Row], costs: Sequence[float | None], front: Sequence[bool]
) -> dict[str, float]:
    """The costs by subject; a row without one is not drawn."""
    drawn = {}
    percent = [100 * row.accuracy for row in rows]
    points = zip(costs, percent, front, strict=True)
    joined = sorted((cost, mean) for cost, mean, on in points if on and cost is not None)
    axes.plot(*zip(*joined, strict=True), color="0.6", linewidth=1, zorder=0)
    for index, (cost, row, on) in enumerate(zip(costs, rows, front, strict=True)):
        if cost is None:
            continue
        mean = 100 * row.accuracy
        span = [[mean - 100 * min(row.accuracies)], [100 * max(row.accuracies) - mean]]
        colour = COLOURS(index % COLOURS.N)
        fill = colour if on else "white"
        name = str(row.subject)
        axes.errorbar(cost, mean, span, fmt="o", color=colour, mfc=fill, capsize=3, label=name)
        drawn[name] = cost
    axes.grid(alpha=0.3)
    return drawn
