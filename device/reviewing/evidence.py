"""How much the other pictures contradict a picture's label.

Every picture is answered by a closed-form head that was fitted without it (heads/ridge.py), on
features of embeddings (kernel.py). The less probable its own label is in that answer, the earlier
it comes. docs/review.md compares this with confident learning (Northcutt, Jiang, Chuang, JAIR 70,
2021), neighbours and margins.

Letters: P pictures, D numbers in an embedding, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.heads.ridge import RidgeFit, fit_ridge
from mobiletl.device.heads.softmax import softmax
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.reviewing.kernel import Kernel, fit_kernel

# Heads are fitted to so many pictures at most; the rest are held out by that. It bounds memory (a
# few arrays of 1024 x 1024 numbers) and time.
MOST_FITTED = 1024


@dataclass(frozen=True)
class Evidence:
    """What heads that never saw a picture say of it."""

    probabilities: Floats
    """f32[P,K]"""
    kernel: Kernel
    fit: RidgeFit
    rows: list[int]
    """The pictures that both are of."""


def held_out(embeddings: Floats, labels: Labels, classes: int, seed: int = 0) -> Evidence:
    """Answer each of `embeddings` [P,D] by a head fitted without it; every class has a picture."""
    rows = balanced_rows(labels, range(len(labels)), seed, MOST_FITTED)
    kernel = fit_kernel(embeddings[rows])
    fit = fit_ridge(kernel.features(embeddings[rows]), labels[rows], classes)
    logits = np.empty((len(labels), classes), np.float32)
    logits[rows] = fit.held_out
    rest = np.setdiff1d(np.arange(len(labels)), rows)
    for start in range(0, len(rest), MOST_FITTED):
        some = rest[start : start + MOST_FITTED]
        logits[some] = kernel.features(embeddings[some]) @ fit.head.weight.T + fit.head.bias
    return Evidence(softmax(logits).astype(np.float32), kernel, fit, rows)


def contradicted(probabilities: Floats, labels: Labels) -> list[int]:
    """Return all rows of [P,K], the one whose label is the least probable first."""
    own = probabilities[np.arange(len(labels)), labels]
    return [int(row) for row in np.argsort(own, kind="stable")]
