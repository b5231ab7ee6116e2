"""How much the other pictures contradict a picture's label.

Every picture is answered by a closed-form head that was fitted to all others (heads/ridge.py), on
features of what the network makes of it (kernel.py). The less probable its own label is in that
answer, the earlier it comes. docs/review.md compares this with confident learning (Northcutt,
Jiang, Chuang, JAIR 70, 2021), neighbours and margins.

Letters: P pictures, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.heads.ridge_in_parts import held_out_in_parts
from mobiletl.device.heads.softmax import softmax
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.reviewing.kernel import Described, Kernel, fit_kernel

# So many pictures are landmarks at most. It bounds memory (a few arrays of 1024 x 1024 numbers) and
# time; heads are fitted to all pictures.
MOST_LANDMARKS = 1024


@dataclass(frozen=True)
class Evidence:
    """What heads that never saw a picture say of it."""

    probabilities: Floats
    """f32[P,K]"""
    kernel: Kernel
    penalty: float
    rows: list[int]
    """The pictures that are landmarks."""


def held_out(described: Described, labels: Labels, classes: int, seed: int = 0) -> Evidence:
    """Answer each of the pictures `described`, by a head fitted without it; every class has one."""
    rows = balanced_rows(labels, range(len(labels)), seed, MOST_LANDMARKS)
    kernel = fit_kernel(described.parts(rows))
    found = held_out_in_parts(
        lambda some: kernel.features(described.parts(some)), labels, classes, np.array(rows)
    )
    probabilities = softmax(found.logits).astype(np.float32)
    return Evidence(probabilities, kernel, found.penalty, rows)


def contradicted(probabilities: Floats, labels: Labels) -> list[int]:
    """Return all rows of [P,K], the one whose label is the least probable first."""
    own = probabilities[np.arange(len(labels)), labels]
    return [int(row) for row in np.argsort(own, kind="stable")]
