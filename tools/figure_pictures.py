"""Draws the rows of `figure_tables.py` with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from figure_tables import MOBILETL, TOTAL, VANILLA, Row
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from PIL import Image

DPI = 100
# Enough for thin smoothed lines in four colours, at a quarter of the size of full colour.
PALETTE = 64
COLOURS = {VANILLA: "#8c8c8c", MOBILETL: "#d65f00"}
TITLES = {VANILLA: "exact (ft-blocks, ft-all)", MOBILETL: "mobiletl"}
OURS_COLOUR = "#1f77b4"
NOTE = "Paper accounting, batch 8: sums on paper, neither planned nor measured."


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure with few colours; the same figure gives the same bytes."""
    full = io.BytesIO()
    figure.savefig(full, format="png")
    picture = Image.open(full).convert("RGB")
    picture.quantize(PALETTE, dither=Image.Dither.NONE).save(path, optimize=True)


def _figure(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e0e0e0")
        axis.set_axisbelow(True)
    figure.supxlabel(NOTE, fontsize=8, color="#606060")
    return figure, list(axes)


def _known(rows: Iterable[tuple[Row, float]]) -> tuple[list[float], list[float]]:
    """(published values, places) of the rows that have one."""
    known = [(row.published, place) for row, place in rows if row.published is not None]
    return [value for value, _ in known], [place for _, place in known]


def draw_figure_1(rows: tuple[Row, ...]) -> Figure:
    """Bars by component, a panel for each kind of block; black marks are published values."""
    subjects = list(dict.fromkeys(row.subject for row in rows))
    figure, axes = _figure(len(subjects), 10.6, 4.4)
    for axis, subject in zip(axes, subjects, strict=True):
        here = [row for row in rows if row.subject == subject]
        bars = list(dict.fromkeys(row.quantity for row in here if row.quantity != TOTAL))
        totals = []
        for side, method in ((-0.2, VANILLA), (0.2, MOBILETL)):
            found = {row.quantity: row for row in here if row.method == method}
            places = [place + side for place in range(len(bars))]
            values = [found[name].ours for name in bars]
            axis.barh(places, values, height=0.38, color=COLOURS[method], label=method)
            marks, heights = _known(zip((found[name] for name in bars), places, strict=True))
            axis.plot(marks, heights, "|", color="black", markersize=9)
            totals.append(f"{method} {found[TOTAL].ours:.2f} ({found[TOTAL].published})")
        axis.plot([], [], "|", color="black", markersize=9, label="published")
        axis.set_yticks(range(len(bars)), bars)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.6)
        axis.set_title(
            f"{subject}: stored activations, MB\nours (published): {', '.join(totals)}",
            fontsize=8,
        )
        axis.legend(fontsize=8, loc="lower right")
    return figure


def draw_figure_2(rows: tuple[Row, ...]) -> Figure:
    """Three panels against the number of trained blocks: FLOPs forward, backward, and memory."""
    quantities = list(dict.fromkeys(row.quantity for row in rows))
    subjects = list(dict.fromkeys(row.subject for row in rows))
    figure, axes = _figure(len(quantities), 10.0, 3.6)
    for axis, quantity in zip(axes, quantities, strict=True):
        here = [row for row in rows if row.quantity == quantity]
        for line in (VANILLA, MOBILETL):
            mine = [row for row in here if (row.method == MOBILETL) == (line == MOBILETL)]
            places = [subjects.index(row.subject) for row in mine]
            values = [row.ours for row in mine]
            axis.plot(places, values, "o-", color=COLOURS[line], label=TITLES[line])
        marks, at = _known((row, subjects.index(row.subject)) for row in here)
        axis.plot(at, marks, "kx", markersize=9, label="published, exact")
        axis.set_xticks(range(len(subjects)), [name.split()[0] for name in subjects])
        axis.set_xlabel("trained blocks")
        axis.set_ylim(0, 1.08 * max(row.ours for row in here))
        axis.set_title(f"{quantity}, {here[0].unit}", fontsize=10)
    axes[0].legend(fontsize=8, loc="lower right")
    return figure


def draw_memory(rows: tuple[Row, ...]) -> Figure:
    """One line per method on a logarithmic axis, ours and published."""
    ordered = sorted(rows, key=lambda row: row.ours)
    figure, (axis,) = _figure(1, 8.0, 0.27 * len(rows) + 1.3)
    places = range(len(ordered))
    axis.plot([row.ours for row in ordered], places, "o", color=OURS_COLOUR, label="ours")
    marks, at = _known(zip(ordered, places, strict=True))
    axis.plot(marks, at, "kx", markersize=8, label="published")
    axis.set_yticks(places, [f"{row.method} {row.subject}".strip() for row in ordered])
    axis.set_xscale("log")
    axis.set_xticks([30, 40, 50, 100, 200, 400])
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.minorticks_off()
    axis.set_title("Training memory, ProxylessNAS-Mobile, 224 px, 100 classes, MB", fontsize=10)
    axis.legend(fontsize=8, loc="lower right")
    return figure
