"""What the runs of all seeds come to, a row for each contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.learning.race import REACHED, Curve
from bench.speed import EAGER


@dataclass(frozen=True)
class Row:
    """Means over seeds; ratios are those of means, above 1 where this is better than PyTorch."""

    name: str
    pictures_per_s: float
    """All pictures of a run by the clock at its end."""
    speed_ratio: float
    accuracy: float
    """The share of right answers on test pictures after the last step."""
    seconds_to_own: float
    """To 95 % of its own final accuracy."""
    own_ratio: float
    seconds_to_eager: float | None
    """To 95 % of PyTorch's final accuracy; None where a seed has not reached it."""
    eager_ratio: float | None
    peak_bytes: int | None
    """Of a whole process; None where it was not measured."""


def rows_of(runs: Sequence[Mapping[str, Curve]], peaks: Mapping[str, int]) -> list[Row]:
    """`runs` has the curves of each seed by contender, PyTorch's under EAGER."""
    own = {name: fmean(_own_seconds(run[name]) for run in runs) for name in runs[0]}
    rates = {
        name: fmean(run[name].pictures / run[name].seconds[-1] for run in runs) for name in runs[0]
    }
    rows = []
    for name in runs[0]:
        common = _mean([run[name].seconds_to(REACHED * run[EAGER].final) for run in runs])
        rows.append(
            Row(
                name=name,
                pictures_per_s=rates[name],
                speed_ratio=rates[name] / rates[EAGER],
                accuracy=fmean(run[name].final for run in runs),
                seconds_to_own=own[name],
                own_ratio=own[EAGER] / own[name],
                seconds_to_eager=common,
                eager_ratio=None if common is None else own[EAGER] / common,
                peak_bytes=peaks.get(name),
            )
        )
    return rows


def _own_seconds(curve: Curve) -> float:
    found = curve.seconds_to(REACHED * curve.final)
    assert found is not None  # the last part reaches it
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    reached = [value for value in values if value is not None]
    return fmean(reached) if len(reached) == len(values) else None


def table_lines(rows: Sequence[Row], pictures: int) -> list[str]:
    """A table in Markdown; `pictures` is how many a run has trained on, repeated ones counted."""
    heads = (
        "",
        "pictures/s",
        f"accuracy after {pictures} pictures, %",
        "s to 95 % of its final accuracy",
        "s to 95 % of PyTorch's",
        "peak of a process, MB",
    )
    return [
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
    ]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.pictures_per_s:.1f} ({row.speed_ratio:.2f} x)",
        f"{100 * row.accuracy:.1f}",
        f"{row.seconds_to_own:.1f} ({row.own_ratio:.2f} x)",
        _seconds(row.seconds_to_eager, row.eager_ratio),
        "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}",
    )


def _seconds(seconds: float | None, ratio: float | None) -> str:
    """A time and how many times faster than PyTorch that is, or that it was not reached."""
    if seconds is None or ratio is None:
        return "not reached"
    return f"{seconds:.1f} ({ratio:.2f} x)"
