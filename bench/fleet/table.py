"""`python -m bench.fleet.table`: what `bench.fleet` has written, as a table and a plot.

Letters: S seeds, each of which deals the pictures anew. A run has come as far as the plain one once
the mean of its S accuracies has reached 95 % of that one's final accuracy, which is the mean over
its last three evaluations.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

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


# By name of a run, then by seed.
Runs = dict[str, dict[int, list[Row]]]


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


def read_runs(path: Path) -> Runs:
    """Return the rounds of each run, in the order of the file; one that began anew replaces it."""
    runs: Runs = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            number, seeds = int(row["round"]), runs[row["run"]]
            if number == 0:
                seeds[int(row["seed"])] = []
            seeds[int(row["seed"])].append(
                Row(
                    number,
                    float(row["accuracy"]),
                    float(row["own_accuracy"]) if row["own_accuracy"] else None,
                    int(row["bytes_up"]),
                    int(row["bytes_down"]),
                )
            )
    return dict(runs)


def averaged(seeds: dict[int, list[Row]]) -> list[Row]:
    """Return the mean of the S runs, round by round."""
    return [
        Row(
            rows[0].round,
            mean(row.accuracy for row in rows),
            None if rows[0].own is None else mean(row.own or 0.0 for row in rows),
            round(mean(row.up for row in rows)),
            round(mean(row.down for row in rows)),
        )
        # A run under way has fewer.
        for rows in zip(*seeds.values())  # noqa: B905
    ]


def final(rows: list[Row]) -> float:
    """Return the accuracy that a run ends with."""
    return mean(row.accuracy for row in rows[-LAST:])


def table_lines(runs: Runs) -> list[str]:
    """Return the table, as Markdown."""
    enough = ENOUGH * final(averaged(runs.get(PLAIN) or next(iter(runs.values()))))
    lines = [
        f"| run | S | final accuracy | own classes | rounds to {enough:.1%} | MB up | MB down |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seeds in runs.items():
        rows = averaged(seeds)
        own = next((f"{row.own:.1%}" for row in reversed(rows) if row.own is not None), "-")
        reached = next((row for row in rows if row.accuracy >= enough), None)
        if reached is None:
            cost = ["-", "-", "-"]
        else:
            cost = [str(reached.round), f"{reached.up / 1e6:.0f}", f"{reached.down / 1e6:.0f}"]
        ended = _with_spread([final(rows) for rows in seeds.values()])
        lines.append(f"| {name} | {len(seeds)} | {ended} | {own} | {' | '.join(cost)} |")
    return lines


def _with_spread(values: Iterable[float]) -> str:
    """Return the mean, and the standard deviation where there is one."""
    known = list(values)
    spread = f" ± {100 * stdev(known):.1f}" if len(known) > 1 else ""
    return f"{mean(known):.1%}{spread}"


def draw(runs: Runs, path: Path) -> None:
    """Draw accuracy against rounds, and against bytes in both directions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_round, by_bytes) = pyplot.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for place, (name, seeds) in enumerate(runs.items()):
        # Without the untrained state, and dashed differently: several lines lie on each other.
        rows = averaged(seeds)[1:]
        style = {"label": name, "linestyle": (0, (8, place)), "marker": "o", "markersize": 2.5}
        accuracies = [100 * row.accuracy for row in rows]
        by_round.plot([row.round for row in rows], accuracies, **style)
        by_bytes.plot([(row.up + row.down) / 1e6 for row in rows], accuracies, **style)
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
