"""The table of a comparison: a row per set and number of pictures, a column per way to learn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

# A run may end so far below its closed form, in accuracy.
ALLOWED = 0.005


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: accuracies in percent, means over seeds, then means over sets."""
    blocks = sorted({row["cell"]["blocks"] for row in rows})
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[(row["cell"]["set"], row["cell"]["per_class"])].append(row)
    heads = ["set", "pictures per class", "probe", "closed form", *(f"{b} blocks" for b in blocks)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for (name, per_class), group in sorted(groups.items(), key=lambda item: _order(item[0])):
        lines.append(_line(name, per_class or "all", group, blocks))
    lines.append(_line("mean", "", rows, blocks))
    return [*lines, "", *_remarks(rows)]


def _order(key: tuple[str, int]) -> tuple[str, float]:
    name, per_class = key
    return name, per_class or float("inf")


def _line(name: str, count: object, rows: Sequence[dict[str, Any]], blocks: Sequence[int]) -> str:
    cells = [name, str(count), _mean([row["probe"] for row in rows])]
    cells.append(_mean([row["closed_form"]["accuracy"] for row in rows]))
    for number in blocks:
        mine = [row["trained"]["accuracy"] for row in rows if row["cell"]["blocks"] == number]
        cells.append(_mean(mine))
    return "| " + " | ".join(cells) + " |"


def _mean(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}" if values else "-"


def _remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    gains = [row["trained"]["accuracy"] - row["closed_form"]["accuracy"] for row in rows]
    below = [row for row, gain in zip(rows, gains, strict=True) if gain < -ALLOWED]
    lines = [
        f"{len(rows)} runs, {sum(row['rate_cuts'] or 0 for row in rows)} cuts of a rate; "
        f"{len(below)} end more than 0.5 points below their closed form:"
    ]
    for row in below:
        cell = row["cell"]
        lost = 100 * (row["closed_form"]["accuracy"] - row["trained"]["accuracy"])
        lines.append(
            f"  {cell['set']}, {cell['per_class'] or 'all'} per class, {cell['blocks']} blocks, "
            f"seed {cell['seed']}: {lost:.1f} points below"
        )
    return lines
