"""The papers' figures, ours beside theirs, as CSV and PNG: `make figures`.

    python tools/figures.py [--out docs/figures]

Nothing is measured here: both columns are paper accounting, and docs/accounting.md explains them.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from figure_pictures import draw_figure_1, draw_figure_2, draw_memory, save_png
from figure_tables import TITLES, Row, figure_1, figure_2, memory
from matplotlib.figure import Figure

DEFAULT_OUT = Path("docs/figures")


@dataclass(frozen=True)
class Drawing:
    """One figure: NAME.csv and NAME.png."""

    name: str
    rows: Callable[[], tuple[Row, ...]]
    draw: Callable[[tuple[Row, ...]], Figure]


DRAWINGS = (
    Drawing("figure1-one-block", figure_1, draw_figure_1),
    Drawing("figure2-blocks", figure_2, draw_figure_2),
    Drawing("memory-proxyless", memory, draw_memory),
)


def csv_text(rows: tuple[Row, ...]) -> str:
    """The rows as CSV with a line of titles."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TITLES)
    writer.writerows(row.cells() for row in rows)
    return text.getvalue()


def write(out: Path) -> list[Path]:
    """Write every figure into `out` and return the paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for drawing in DRAWINGS:
        rows = drawing.rows()
        table, picture = out / f"{drawing.name}.csv", out / f"{drawing.name}.png"
        table.write_text(csv_text(rows), "utf-8")
        save_png(drawing.draw(rows), picture)
        paths += [table, picture]
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the papers' figures, ours beside theirs.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="default %(default)s")
    for path in write(parser.parse_args().out):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
