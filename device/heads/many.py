"""Ridge regression on many pictures, in the memory of their embeddings.

The fit for every penalty (ridge.py) takes the P x P products of pictures and their vectors. Where
the penalty is known, conjugate gradients on the normal equations (Hestenes and Stiefel, 1952) take
a few rows of D numbers per class beside the embeddings themselves.

Letters: P pictures, D numbers in an embedding, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.heads.ridge import Head, balanced

# Python 3.8 cannot evaluate `np.floating[Any]`.
Reals = NDArray[Any]

# Iterations at most, and the residual, as a share of the first one, at which they end. No label
# of 500 pictures changed after half as many.
ITERATIONS = 200
TOLERANCE = 1e-4
TINY = 1e-30


def solve_many(x: Floats, labels: Labels, classes: int, penalty: float) -> Head:
    """Fit a head to `x` f32[P,D], which is overwritten, with `labels` i64[P] and logits between -1
    and 1, as `ridge.solve_ridge` does.
    """
    weights = balanced(labels, classes)
    share = (weights / weights.sum()).astype(np.float32)
    root = np.sqrt(weights).astype(np.float32)[:, None]
    y = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0).astype(np.float32)
    mean_x, mean_y = share @ x, share @ y
    x -= mean_x
    x *= root
    y = (y - mean_y) * root
    weight = _conjugate_gradients(x, x.T @ y, penalty)
    bias = mean_y - mean_x @ weight
    return Head(np.ascontiguousarray(weight.T, np.float32), bias.astype(np.float32))


def _conjugate_gradients(x: Floats, target: Reals, penalty: float) -> Reals:
    """Solve (x.T @ x + penalty) w = target [D,K], each column by itself."""
    solution = np.zeros_like(target)
    residual = target.copy()
    direction = residual.copy()
    lengths = _lengths(residual)
    enough = lengths * TOLERANCE**2
    for _ in range(ITERATIONS):
        moved = x.T @ (x @ direction) + np.float32(penalty) * direction
        step = lengths / np.maximum((direction * moved).sum(axis=0), TINY)
        solution += step * direction
        residual -= step * moved
        left = _lengths(residual)
        if (left <= enough).all():
            break
        direction *= left / np.maximum(lengths, TINY)
        direction += residual
        lengths = left
    return solution


def _lengths(columns: Reals) -> Reals:
    result: Reals = (columns**2).sum(axis=0)
    return result
