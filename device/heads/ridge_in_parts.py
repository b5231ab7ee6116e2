"""The held-out answers of a ridge head, of more pictures than fit into memory at once.

It is the head of heads/ridge.py on features that are computed when they are asked for, some
pictures at a time: first for the products of features, whose eigendecomposition gives the fit for
every penalty, then for the answers. The penalty and the scale are chosen by the held-out answers of
some of the pictures, which takes no second array of all.

Letters: P pictures, R numbers in a picture's features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.heads.calibration import Reals
from mobiletl.device.heads.ridge import MOST_LEVERAGE, PENALTIES, balanced, calibrated

# Pictures whose features are in memory at once.
AT_ONCE = 256

# Gives the features f32[N,R] of the N pictures with these rows.
Features = Callable[[Labels], Floats]


@dataclass(frozen=True)
class HeldOut:
    """Logits f32[P,K] of each picture, from the head fitted without it, and its penalty."""

    logits: Floats
    penalty: float


def held_out_in_parts(
    features: Features, labels: Labels, classes: int, choosing: Labels
) -> HeldOut:
    """Answer all pictures of `labels` [P]; the rows `choosing` choose penalty and scale."""
    problem = _Problem.of(features, labels, classes, choosing)
    unit = float(problem.values.mean()) or 1.0
    chosen = problem.rotated(choosing)
    tried = []
    for penalty in PENALTIES * unit:
        answers = problem.answers(chosen, choosing, penalty)
        scale, loss = calibrated(answers, labels[choosing], problem.weights[choosing])
        tried.append((loss, float(penalty), scale))
    _, penalty, scale = min(tried)
    logits = np.empty((len(labels), classes), np.float32)
    for rows in _some(len(labels)):
        logits[rows] = problem.answers(problem.rotated(rows), rows, penalty) * scale
    return HeldOut(logits, penalty)


@dataclass(frozen=True)
class _Problem:
    """What is known of all pictures: the eigendecomposition of their features' products."""

    features: Features
    y: Reals
    """[P,K], centred rows times the root of their weight."""
    mean_x: Floats
    """f32[R]"""
    mean_y: Reals
    weights: Reals
    """[P], their mean is 1."""
    values: Reals
    """[R]"""
    vectors: Floats
    """f32[R,R]"""
    target: Reals
    """[R,K], products of rotated features and `y`."""

    @classmethod
    def of(cls, features: Features, labels: Labels, classes: int, some: Labels) -> _Problem:
        weights = balanced(labels, classes)
        root = np.sqrt(weights).astype(np.float32)[:, None]
        y = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0).astype(np.float32)
        mean_y = np.average(y, 0, weights).astype(np.float32)
        y = (y - mean_y) * root
        # Nearly the mean, so that what is taken off the products below is small and exact.
        shift = features(some).mean(axis=0)
        width = len(shift)
        products, off = np.zeros((width, width), np.float32), np.zeros(width)
        towards = np.zeros((width, classes), np.float32)
        for rows in _some(len(labels)):
            x = (features(rows) - shift) * root[rows]
            products += x.T @ x
            off += (root[rows] * x).sum(axis=0, dtype=np.float64)
            towards += x.T @ y[rows]
        # The targets' weighted mean is nought, so theirs need no correction.
        scaled = (off / np.sqrt(weights.sum())).astype(np.float32)
        products -= np.outer(scaled, scaled)
        values, vectors = np.linalg.eigh(products)
        mean_x = (shift + off / weights.sum()).astype(np.float32)
        values = np.maximum(values, 0.0).astype(np.float64)
        return cls(features, y, mean_x, mean_y, weights, values, vectors, vectors.T @ towards)

    def rotated(self, rows: Labels) -> Reals:
        """Weighted features of some pictures along the eigenvectors, f32[N,R]."""
        root = np.sqrt(self.weights[rows]).astype(np.float32)[:, None]
        result: Reals = ((self.features(rows) - self.mean_x) * root) @ self.vectors
        return result

    def answers(self, rotated: Reals, rows: Labels, penalty: float) -> Reals:
        """The fit [N,K] of some pictures' indicators, of each without that picture."""
        shrunk = (1.0 / (self.values + penalty)).astype(np.float32)
        y, weights = self.y[rows], self.weights[rows]
        fit = rotated @ (shrunk[:, None] * self.target)
        leverage = (rotated**2) @ shrunk + weights / self.weights.sum()
        left = 1.0 - np.minimum(leverage, MOST_LEVERAGE)
        held_out = y - (y - fit) / left[:, None]
        result: Reals = held_out / np.sqrt(weights)[:, None] + self.mean_y
        return result


def _some(count: int) -> Iterator[Labels]:
    for start in range(0, count, AT_ONCE):
        yield np.arange(start, min(start + AT_ONCE, count))
