"""`python -m bench.fleet.table`: what `bench.fleet` has written, as a table and a plot.

A run has come as far as the plain one, or else the first one, once it has 95 % of that one's final
accuracy, which is the mean of its last three rounds.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

PLAIN = "FedAvg"
ENOUGH = 0.95
LAST = 3


@dataclass(frozen=True)
class Row:
    """A round of a run; bytes are sums over its boards and all rounds so far."""

    round: int
    accuracy: float
    own: float | None
    up: int
    down: int


def main() -> None:
    """Print the table and draw the plot."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet.table", description=__doc__)
    parser.add_argument("--rounds", default="artifacts/fleet-rounds.csv")
    parser.add_argument("--plot", default="artifacts/fleet-rounds.png")
    flags = parser.parse_args()
    runs = read_runs(Path(flags.rounds))
    for line in table_lines(runs):
        print(line)
    draw(runs, Path(flags.plot))
    print(f"wrote {flags.plot}")


def read_runs(path: Path) -> dict[str, list[Row]]:
    """Return the rounds of each run, in the order of the file."""
    runs: dict[str, list[Row]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            own = float(row["own_accuracy"]) if row["own_accuracy"] else None
            runs[row["run"]].append(
                Row(
                    int(row["round"]),
                    float(row["accuracy"]),
                    own,
                    int(row["bytes_up"]),
                    int(row["bytes_down"]),
                )
            )
    return dict(runs)


def final(rows: list[Row]) -> float:
    """Return the accuracy that a run ends with."""
    return mean(row.accuracy for row in rows[-LAST:])


def table_lines(runs: dict[str, list[Row]]) -> list[str]:
    """Return the table, as Markdown."""
    enough = ENOUGH * final(runs.get(PLAIN) or next(iter(runs.values())))
    lines = [
        f"| run | final accuracy | own classes | rounds to {enough:.1%} | MB up | MB down |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in runs.items():
        reached = next((row for row in rows if row.accuracy >= enough), None)
        own = next((f"{row.own:.1%}" for row in reversed(rows) if row.own is not None), "-")
        when = "-" if reached is None else str(reached.round)
        sizes = ("-", "-")
        if reached is not None:
            sizes = (f"{reached.up / 1e6:.0f}", f"{reached.down / 1e6:.0f}")
        lines.append(f"| {name} | {final(rows):.1%} | {own} | {when} | {sizes[0]} | {sizes[1]} |")
    return lines


def draw(runs: dict[str, list[Row]], path: Path) -> None:
    """Draw accuracy against rounds, and against bytes in both directions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_round, by_bytes) = pyplot.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for name, rows in runs.items():
        accuracies = [100 * row.accuracy for row in rows]
        by_round.plot([row.round for row in rows], accuracies, label=name)
        sent = [(row.up + row.down) / 1e6 for row in rows]
        by_bytes.plot(sent[1:], accuracies[1:], label=name)
    by_round.set_xlabel("rounds")
    by_round.set_ylabel("accuracy on all test pictures, %")
    by_bytes.set_xlabel("MB up and down, all boards")
    by_bytes.set_xscale("log")
    by_round.legend(fontsize=7)
    for axes in (by_round, by_bytes):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
