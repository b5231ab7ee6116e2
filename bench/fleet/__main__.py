"""`python -m bench.fleet`: see the package."""

from __future__ import annotations

import argparse
import csv
import logging
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from bench.fleet.boards import (
    ALL,
    OWN,
    RESTORED,
    SCENE,
    Scene,
    accuracy_of,
    own_accuracy,
    scene_text,
)
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.fleet.asked import HEAD, NORMS, NOTHING, personal_names
from mobiletl.device.fleet.client_app import record_of
from mobiletl.device.fleet.coding import FLOAT16, FLOAT32, INT8
from mobiletl.fleet.guarded import Guarded
from mobiletl.fleet.plan import Plan
from mobiletl.fleet.strategies import row_of, strategy_of

FIELDS = (
    *("seed", "run", "round", "accuracy", "own_accuracy"),
    *("boards", "bytes_up", "bytes_down", "seconds"),
)


@dataclass(frozen=True)
class Run:
    """One line of the table."""

    name: str
    strategy: str = "fedavg"
    encoding: str = FLOAT32
    personal: str = NOTHING
    softmax: str = RESTORED


RUNS = (
    Run("FedAvg"),
    Run("FedProx", strategy="fedprox"),
    Run("FedAdam", strategy="fedadam"),
    Run("FedAvg, personal norms", personal=NORMS),
    Run("FedAvg, personal head", personal=HEAD),
    Run("FedAvg, float16", encoding=FLOAT16),
    Run("FedAvg, int8", encoding=INT8),
    Run("FedAvg, all rows are averaged", softmax=ALL),
    Run("FedAvg, softmax over own classes", softmax=OWN),
)


def main() -> None:
    """Simulate the runs and append their rounds to a CSV; what it has to its end is left out."""
    parser = _parser()
    flags = parser.parse_args()
    asked = flags.runs.split(";") if flags.runs else [run.name for run in RUNS]
    unknown = sorted(set(asked) - {run.name for run in RUNS})
    if unknown:
        parser.error(f"no such run: {'; '.join(unknown)}; they are: {'; '.join(_names())}")
    ended = _ended(Path(flags.out), flags.rounds)
    for seed in map(int, flags.seeds.split(",")):
        chosen = [run for run in RUNS if run.name in asked and (seed, run.name) not in ended]
        if chosen:
            with tempfile.TemporaryDirectory() as home:
                simulate(chosen, seed, flags, Path(home))


def _names() -> list[str]:
    return [run.name for run in RUNS]


def _ended(path: Path, rounds: int) -> set[tuple[int, str]]:
    """Return the seed and name of each run whose last round is written."""
    if not path.exists():
        return set()
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (int(row["seed"]), row["run"])
            for row in csv.DictReader(file)
            if int(row["round"]) == rounds
        }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    add = parser.add_argument
    add("--bundle", required=True)
    add("--data", required=True, help="folder with train/ and test/")
    add("--out", default="artifacts/fleet-rounds.csv")
    add("--cache", default="artifacts")
    add("--runs", default="", help="names with semicolons; default: all")
    add("--boards", type=int, default=200)
    add("--alpha", type=float, default=0.3, help="of the Dirichlet distribution")
    add("--drops", type=float, default=0.2, help="share of replies that never come")
    add("--slow", type=float, default=0.2, help="share of boards that take a third of the steps")
    add("--share", type=float, default=0.2, help="of the boards, in a round")
    add("--rounds", type=int, default=30)
    add("--epochs", type=int, default=2)
    add("--lr", type=float, default=1e-3)
    add("--proximal", type=float, default=0.1)
    add("--server-lr", type=float, default=1e-3)
    add("--seeds", default="0", help="with commas; each deals the pictures anew")
    add("--every", type=int, default=2, help="rounds between two evaluations")
    return parser


def simulate(runs: list[Run], seed: int, flags: argparse.Namespace, home: Path) -> None:
    """Simulate runs, one after the other, in one start of Flower's engine.

    Boards keep their files in `home`, which is emptied between two runs.
    """
    bundle = open_bundle(Path(flags.bundle))
    text = scene_text(
        Path(flags.bundle).resolve(),
        Path(flags.data).resolve(),
        Path(flags.cache).resolve(),
        flags.boards,
        flags.alpha,
        seed,
        flags.drops,
        flags.slow,
        home,
    )
    here = Scene(text)
    os.environ[SCENE] = text
    names = here.maps.class_names
    state = bundle.initial_state(len(names), seed)
    lasting = {e.name for e in bundle.manifest.state if e.role != "slot"}
    first = {name: tensor for name, tensor in state.items() if name in lasting}
    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def serve(grid: Grid, context: Context) -> None:
        for run in runs:
            shutil.rmtree(home)
            home.mkdir()
            (home / "softmax").write_text(run.softmax, encoding="ascii")
            _serve(run, seed, flags, here, _plan(run, flags, names), first, grid)

    from bench.fleet.boards import app as boards

    logging.getLogger("flwr").setLevel(logging.ERROR)
    run_simulation(
        app,
        boards,
        num_supernodes=flags.boards,
        backend_config={
            "init_args": {"num_cpus": 1, "logging_level": "error", "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


class Drawn(Guarded):
    """Flower draws a round's boards with Python's random numbers: alike in all runs of a seed."""

    seed = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See Strategy."""
        random.seed(1000 * self.seed + server_round)
        return super().configure_train(server_round, arrays, config, grid)


def _serve(
    run: Run, seed: int, flags: argparse.Namespace, here: Scene, plan: Plan, first: Any, grid: Grid
) -> None:
    manifest = here.bundle.manifest
    strategy = Drawn(
        strategy_of(plan), plan, manifest, 0, row_of(plan.strategy).averages_statistics
    )
    strategy.seed = seed
    sums = {"up": 0.0, "down": 0.0}
    began, classes = time.monotonic(), len(plan.class_names)

    def score(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        for one in strategy.record.taken:
            sums["up"] += one.metrics["bytes-up"]
            sums["down"] += one.metrics["bytes-down"]
        if number % flags.every and number != plan.rounds:
            return None
        tensors = {name: array.numpy() for name, array in arrays.items()}
        accuracy = accuracy_of(here, tensors, classes)
        last = number == plan.rounds or number % 20 == 0
        home = personal_names(manifest, plan.personal)
        own = own_accuracy(here, tensors, classes, home) if last else ""
        row = (
            seed,
            run.name,
            number,
            round(accuracy, 4),
            own if own == "" else round(own, 4),
            len(strategy.record.taken),
            int(sums["up"]),
            int(sums["down"]),
            round(time.monotonic() - began, 1),
        )
        _append(Path(flags.out), row)
        print(*row, flush=True)
        return None

    strategy.start(
        grid=grid,
        initial_arrays=record_of(first),
        num_rounds=plan.rounds,
        timeout=600,
        evaluate_fn=score,
    )


def _append(path: Path, row: tuple[object, ...]) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(FIELDS)
        writer.writerow(row)


def _plan(run: Run, flags: argparse.Namespace, names: tuple[str, ...]) -> Plan:
    return Plan(
        bundle=Path(flags.bundle),
        class_names=names,
        rounds=flags.rounds,
        boards=flags.boards,
        share=flags.share,
        round_seconds=600.0,
        strategy=run.strategy,
        epochs=flags.epochs,
        seconds=0.0,
        batch=8,
        lr=flags.lr,
        encoding=run.encoding,
        personal=run.personal,
        softmax="all",
        proximal=flags.proximal,
        server_lr=flags.server_lr,
        broken=0,
        evaluate=False,
    )


if __name__ == "__main__":
    main()
