"""What it takes to learn pictures in one look, beside naming as many.

    python -m bench.teach --bundle artifacts/mbv2 --data sets/trashnet6 sets/grocery20

Of each set 5 classes with 20 pictures each are learned, and 20 others of each class are named.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeClassifier

from bench.defaults.cells import find_set, pictures_in
from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.commands.table import guarded
from mobiletl.device.heads.ridge import fit_ridge
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.teaching.teacher import Teacher

CLASSES, PICTURES = 5, 20
Files = list[tuple[Path, str]]


@dataclass(frozen=True)
class Round:
    """Seconds: for looking at all pictures, solving, the first answer, and naming all pictures."""

    look: float
    solve: float
    answer: float
    name: float

    @property
    def ratio(self) -> float:
        """Until the first answer, by the time that naming takes."""
        return (self.look + self.solve + self.answer) / self.name


def main(argv: list[str] | None = None) -> int:
    """Print a line for each set."""
    return guarded(lambda: _measure(_parser().parse_args(argv)))


def _measure(flags: argparse.Namespace) -> int:
    bundle = open_bundle(flags.bundle)
    for data in flags.data:
        found = find_set(data)
        names = found.class_names[:CLASSES]
        train = _files(found.train, names)
        rounds = [_round(bundle, train, flags.threads) for _ in range(flags.rounds)]
        ours, theirs = _accuracies(bundle, train, _files(found.test, names), names, flags.threads)
        ratios = sorted(one.ratio for one in rounds)
        solved = statistics.median(one.solve for one in rounds)
        print(
            f"{found.name}: until the first answer {statistics.median(ratios):.2f} x naming "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), solving {solved:.3f} s; right {ours:.1%}, "
            f"RidgeClassifier {theirs:.1%}",
            flush=True,
        )
    return 0


def _files(folder: Path, names: list[str]) -> Files:
    return [(file, name) for name in names for file in pictures_in(folder / name)[:PICTURES]]


def _round(bundle: Bundle, train: Files, threads: int) -> Round:
    with Teacher(bundle, threads) as teacher:
        teacher.forget(teacher.add(*train[0]))  # loads the graphs
        began = time.monotonic()
        for file, name in train:
            teacher.add(file, name)
        looked = time.monotonic()
        start = teacher.solve()
        solved = time.monotonic()
    with open_predictor(bundle, start, threads) as predictor:
        opened = time.monotonic()
        predictor.predict(train[0][0])
        answered = time.monotonic()
        for file, _ in train:
            predictor.predict(file)
        named = time.monotonic()
    return Round(looked - began, solved - looked, answered - opened, named - answered)


def _accuracies(
    bundle: Bundle, train: Files, test: Files, names: list[str], threads: int
) -> tuple[float, float]:
    x, labels = _embedded(bundle, train, names, threads)
    x_test, truth = _embedded(bundle, test, names, threads)
    head = fit_ridge(x, labels, len(names)).head
    ours = (x_test @ head.weight.T + head.bias).argmax(axis=1)
    theirs = RidgeClassifier().fit(x, labels).predict(x_test)
    return float((ours == truth).mean()), float((theirs == truth).mean())


def _embedded(
    bundle: Bundle, files: Files, names: list[str], threads: int
) -> tuple[Floats, Labels]:
    rows = []
    with open_session(bundle, 2, bundle.initial_state(2, 0), threads) as session:
        for file, _ in files:
            image = prepare(frame_of(file), bundle.manifest.input)[None]
            rows.append(session.embed(session.features(image)).embeddings[0])
    return np.stack(rows), np.array([names.index(name) for _, name in files], np.int64)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.teach", description=__doc__)
    add = parser.add_argument
    add("--bundle", type=Path, required=True)
    add("--data", type=Path, nargs="+", required=True, help="folders with train/ and test/")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
