"""Which replies of boards are taken: one that does not fit, or is far off, never reaches a mean.

Letters: B boards whose replies fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.asked import Asked, personal_names, round_shapes
from mobiletl.device.fleet.coding import received
from mobiletl.device.fleet.wire import read_up

# So many times further from the round's parameters than the median of the boards is no learning.
MOST_TIMES = 10.0
# With two replies nobody can say which one is off.
LEAST_TO_COMPARE = 3
MOST_PICTURES = 1_000_000


@dataclass(frozen=True)
class Update:
    """What a board has sent, in float32: what it shares of a state."""

    node: int
    board: str
    """What the board calls itself; a text from outside."""
    tensors: Tensors
    pictures: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Refused:
    """A reply that is not taken, and why."""

    node: int
    board: str
    why: str


def decoded(
    contents: Mapping[str, bytes], began: Tensors, asked: Asked, manifest: Manifest
) -> Tensors:
    """Return the parameters that a board has sent; `began` are the round's. Raises BadRound."""
    home = personal_names(manifest, asked.personal)
    shapes = {
        name: shape
        for name, shape in round_shapes(manifest, len(asked.class_names)).items()
        if name not in home
    }
    sent = read_up(contents, shapes, asked.encoding)
    with np.errstate(over="ignore", invalid="ignore"):
        tensors = received(began, sent, asked.encoding)
    wild = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
    if wild:
        raise BadRound(f"{wild[0]} is not finite any more")
    # Rounding may have pushed a small variance below zero.
    return {
        name: np.maximum(tensor, 0) if name.endswith("running_var") else tensor
        for name, tensor in tensors.items()
    }


def figures_of(values: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """Return how many pictures a board has trained on, and its figures; raises BadRound."""
    known = {name: value for name, value in values.items() if isinstance(value, (int, float))}
    pictures = known.pop("num-examples", 0)
    if not isinstance(pictures, int) or not 0 < pictures <= MOST_PICTURES:
        raise BadRound(f"it has trained on {pictures!r} pictures, expected 1 to {MOST_PICTURES}")
    if not all(np.isfinite(value) for value in known.values()):
        raise BadRound("it has figures that are not finite")
    return pictures, {name[:40]: float(value) for name, value in known.items()}


def judged(
    updates: list[Update], began: Tensors, usual: float | None
) -> tuple[list[Update], list[Refused], float | None]:
    """Return the updates that are taken, those that are not, and the median of their distances.

    `usual` is the median of an earlier round, which stands in where B < 3.
    """
    distances = [distance(update.tensors, began) for update in updates]
    median = float(np.median(distances)) if len(updates) >= LEAST_TO_COMPARE else usual
    if median is None or median <= 0:
        return updates, [], median
    taken, refused = [], []
    for update, found in zip(updates, distances):
        times = found / median
        if times <= MOST_TIMES:
            taken.append(update)
        else:
            why = f"its update is {times:.0f} times as large as the boards' median"
            refused.append(Refused(update.node, update.board, why))
    return taken, refused, median


def judged_sum(
    updates: list[Update], began: Tensors, usual: float | None
) -> tuple[list[Update], list[Refused], float | None]:
    """Return as `judged` does, where all updates are the same mean of all boards.

    None can be told from the others: the mean is compared with that of the round before, whose
    distance is `usual`.
    """
    if not updates:
        return [], [], usual
    found = distance(updates[0].tensors, began)
    if usual and found > MOST_TIMES * usual:
        times = found / usual
        why = f"the mean of all boards is {times:.0f} times as large as in the round before"
        return [], [Refused(one.node, one.board, why) for one in updates], usual
    return updates, [], found


def distance(tensors: Tensors, began: Tensors) -> float:
    """Return the Euclidean distance of `tensors` from the round's parameters, over all entries."""
    squares = (
        float(np.square(tensor.astype(np.float64) - began[name]).sum())
        for name, tensor in tensors.items()
    )
    return float(np.sqrt(sum(squares)))
