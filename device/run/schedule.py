"""Which pictures a step sees and at what rate: pure functions of seed, epoch and step.

Nothing here has a memory, so a resumed run repeats what the uninterrupted one would have done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Keeps the order's stream apart from those of the crops and the split.
STREAM = 0x6F726472
# Share of a run's steps over which the rate rises.
WARM_UP = 0.1


def steps_per_epoch(pictures: int, batch: int) -> int:
    """Steps of one epoch; a single picture left over makes none.

    The batch statistics of one picture say nothing about the others. With a batch size of 1 a
    person has asked for just that.
    """
    whole, left = divmod(pictures, batch)
    return whole + (left > 1)


@dataclass(frozen=True)
class Schedule:
    """`pictures` in batches of `batch`, `epochs` times over."""

    pictures: int
    batch: int
    epochs: int
    lr: float
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch."""
        return steps_per_epoch(self.pictures, self.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def rate(self, step: int) -> float:
        """Learning rate of step `step` of the run: it rises to `lr` along a line, over a tenth of
        the steps, and falls to 0 along half a cosine.

        Without the rise the first steps of Adam, which knows no gradient yet, undo what a good
        start knows (docs/defaults.md).
        """
        rise = int(WARM_UP * self.steps)
        if step < rise:
            return self.lr * (step + 1) / rise
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / (self.steps - rise)))

    def rows(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch (counted from 1), each a list of rows."""
        order = np.random.default_rng((STREAM, self.seed, epoch)).permutation(self.pictures)
        starts = range(0, self.steps_per_epoch * self.batch, self.batch)
        return [order[start : start + self.batch].tolist() for start in starts]
