"""The least value of a function of one number."""

from __future__ import annotations

import math
from typing import Callable

# The range shrinks to 1/2000 of itself.
STEPS = 16
GOLDEN = (math.sqrt(5) - 1) / 2


def least(loss: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Return where between `low` and `high` a function with one valley is least, and its value.

    Golden-section search (Kiefer, 1953): a step costs one value and takes off 38 % of the range.
    """
    inner = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)]
    losses = [loss(place) for place in inner]
    for _ in range(STEPS):
        if losses[0] <= losses[1]:
            high = inner[1]
            inner = [high - GOLDEN * (high - low), inner[0]]
            losses = [loss(inner[0]), losses[0]]
        else:
            low = inner[0]
            inner = [inner[1], low + GOLDEN * (high - low)]
            losses = [losses[1], loss(inner[1])]
    best = min(range(2), key=losses.__getitem__)
    return inner[best], losses[best]
