"""The picture: time of the step above, memory of the process below, one column per sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

from bench.cost.cases import FORMS
from bench.cost.costs import Cost

AXES = {
    "batch": "batch, pictures a step",
    "blocks": "trained blocks",
    "resolution": "resolution, px",
}
COLOURS = dict(zip(FORMS, ("tab:blue", "tab:orange"), strict=True))
MARKS = dict(zip(FORMS, ("o", "s"), strict=True))


def draw_costs(costs: Sequence[Cost], path: Path, title: str) -> None:
    """Two rows of small plots in one PNG of 1200 x 700 pixels; a row has one scale."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)
    sweeps = list(dict.fromkeys(cost.sweep for cost in costs))
    panels = figure.subplots(2, len(sweeps), sharey="row", sharex="col", squeeze=False)
    for (upper, lower), sweep in zip(panels.T, sweeps, strict=True):
        _panels(upper, lower, [cost for cost in costs if cost.sweep == sweep])
        lower.set_xlabel(AXES[sweep])
    times, peaks = panels[:, 0]
    times.set_ylabel("step, ms a picture (measured)")
    peaks.set_ylabel("peak of the process, MB (1e6 bytes)")
    handles, names = (
        above + below
        for above, below in zip(
            *(a.get_legend_handles_labels() for a in (times, peaks)), strict=True
        )
    )
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, dpi=100)


def _panels(upper: Axes, lower: Axes, costs: Sequence[Cost]) -> None:
    """Draw one sweep; its costs differ in the field that it is named after."""
    sweep = costs[0].sweep
    for form in FORMS:
        drawn = [cost for cost in costs if cost.form == form]
        values = [getattr(cost.case, sweep) for cost in drawn]
        colour, mark = COLOURS[form], MARKS[form]
        step_ms = [cost.step_ms for cost in drawn]
        upper.plot(values, step_ms, color=colour, marker=mark, label=f"step on {form}")
        measured = [cost.measured_bytes / 1e6 for cost in drawn]
        # Hollow: where the forms cost the same, both marks and the lines stay in sight.
        points = lower.plot(values, measured, mark, color=colour, label=f"peak, {form}, measured")
        points[0].set(markerfacecolor="none", markersize=8)
        planned = [cost.planned_bytes / 1e6 for cost in drawn]
        lower.plot(values, planned, color=colour, label=f"peak, {form}, planned")
    # All blocks cost so much more than a few that a linear axis would press the rest together.
    for axes, marked in ((upper, (1, 2, 5)), (lower, (1, 1.2, 1.5, 2, 3, 5, 7))):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=marked))
        axes.yaxis.set_minor_locator(NullLocator())
    lower.set_xscale("log" if sweep == "batch" else "linear")
    lower.xaxis.set_major_locator(FixedLocator(sorted({getattr(c.case, sweep) for c in costs})))
    lower.xaxis.set_minor_locator(NullLocator())
    for axis in (lower.xaxis, upper.yaxis, lower.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
