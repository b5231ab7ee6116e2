"""Contenders train on the same pictures in the same order and take turns, part by part of an epoch.

The clock of each counts training alone: decoding, frozen layers, steps. After every part its
accuracy on the test pictures is taken, outside the clock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.learning.contenders import Contender
from bench.speed import BATCH
from bench.timing import SETTLE_SECONDS
from mobiletl.device.bundle.arrays import Floats, Labels

REACHED = 0.95


@dataclass(frozen=True)
class Pictures:
    """Files and their labels."""

    paths: list[Path]
    labels: Labels


@dataclass(frozen=True)
class Plan:
    """`parts` of an epoch are trained in a turn; the rate falls from `rate` linearly to 0."""

    epochs: int
    parts: int
    rate: float


@dataclass(frozen=True)
class Curve:
    """Of one run, after each part: the clock in seconds, and the share of right test answers."""

    pictures: int
    seconds: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def final(self) -> float:
        return self.accuracies[-1]

    def seconds_to(self, accuracy: float) -> float | None:
        """The clock after the first part that reaches `accuracy`; None where none does."""
        pairs = zip(self.seconds, self.accuracies, strict=True)
        return next((clock for clock, found in pairs if found >= accuracy), None)


def race(
    contenders: Mapping[str, Contender],
    train: Pictures,
    tests: Mapping[str, tuple[Floats, Labels]],
    plan: Plan,
    seed: int,
) -> dict[str, Curve]:
    """Train all; `tests` has for each name feature maps [P,C,h,w] and labels [P] of P pictures."""
    batches = _batches(len(train.paths), plan.epochs, seed)
    per_epoch = len(batches) // plan.epochs
    ends = [
        epoch * per_epoch + per_epoch * part // plan.parts
        for epoch in range(plan.epochs)
        for part in range(1, plan.parts + 1)
    ]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    accuracies: dict[str, list[float]] = {name: [] for name in contenders}
    for start, end in zip([0, *ends], ends, strict=False):
        for name, contender in contenders.items():
            time.sleep(SETTLE_SECONDS)
            begun = time.perf_counter()
            for number in range(start, end):
                rows = batches[number]
                paths = [train.paths[row] for row in rows]
                rate = plan.rate * (1 - number / len(batches))
                contender.train(paths, train.labels[rows], rate)
            clock = time.perf_counter() - begun + (seconds[name][-1] if seconds[name] else 0.0)
            seconds[name].append(clock)
            accuracies[name].append(_accuracy(contender, *tests[name]))
    return {
        name: Curve(len(batches) * BATCH, tuple(seconds[name]), tuple(accuracies[name]))
        for name in contenders
    }


def _batches(pictures: int, epochs: int, seed: int) -> list[np.ndarray]:
    """Rows of whole batches, every epoch in an order of its own."""
    generator = np.random.default_rng(seed)
    orders = (generator.permutation(pictures) for _ in range(epochs))
    starts = range(0, pictures - BATCH + 1, BATCH)
    return [order[start : start + BATCH] for order in orders for start in starts]


def _accuracy(contender: Contender, h: Floats, labels: Labels) -> float:
    logits = [contender.learner.logits(h[row : row + BATCH]) for row in range(0, len(h), BATCH)]
    return float((np.concatenate(logits).argmax(axis=1) == labels).mean())
