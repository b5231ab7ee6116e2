"""How often a state is right, in all and by class, and how sure that is with so few pictures.

Letters: P pictures, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels

# A normal variable is so many standard deviations from its mean at most, 19 times out of 20.
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """`right` of `total`, with the interval that holds the true share 19 times out of 20."""

    right: int
    total: int

    @property
    def share(self) -> float | None:
        """None of no pictures."""
        return self.right / self.total if self.total else None

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return wilson(self.right, self.total)[0]

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return wilson(self.right, self.total)[1]


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's interval of a share (JASA 22, 1927): of 5 of 5 it does not say 100 %.

    The usual one, a share plus and minus its standard error, is of no width there.
    """
    if total == 0:
        return 0.0, 1.0
    share, square = right / total, Z95**2
    centre = (share + square / (2 * total)) / (1 + square / total)
    spread = share * (1 - share) / total + square / (4 * total**2)
    half = Z95 / (1 + square / total) * math.sqrt(spread)
    # At a share of 0 or 1 an end is exactly there, and would miss it by a rounding.
    low = 0.0 if right == 0 else max(centre - half, 0.0)
    return low, 1.0 if right == total else min(centre + half, 1.0)


def confusion(labels: Labels, said: Labels, classes: int) -> Labels:
    """Count pictures [K,K] by label (row) and by what was said (column)."""
    counts = np.bincount(labels * classes + said, minlength=classes * classes)
    return counts.astype(np.int64).reshape(classes, classes)


def shares(counts: Labels) -> tuple[Share, list[Share]]:
    """Return how many are right in all and of each class, of a confusion matrix [K,K]."""
    of_class = [Share(int(counts[k, k]), int(counts[k].sum())) for k in range(len(counts))]
    return Share(int(np.trace(counts)), int(counts.sum())), of_class


def worst(probabilities: Floats, labels: Labels) -> list[int]:
    """Return rows of [P,K] that are wrong, the least probable label first."""
    own = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return [int(row) for row in wrong[np.argsort(own[wrong], kind="stable")]]
