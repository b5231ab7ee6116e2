"""Ridge regression onto class indicators; held-out pictures choose its penalty and its scale.

One eigendecomposition, of the P x P products of pictures or of the D x D products of features,
whichever is smaller, gives the fit for every penalty, and the answer that each picture would get
from a head fitted without it (Hastie, Tibshirani, Friedman, The Elements of Statistical Learning,
2nd edition, equation 7.67). So nothing has to be held back to choose by. Beside it, shrunk linear
discriminant analysis and logistic regression were no better, class means were worse by 5 points
(docs/defaults.md).

Letters: P pictures, D numbers in an embedding, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.heads.search import least
from mobiletl.device.heads.softmax import log_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    # Single precision in, double where sums are taken. Python 3.8 cannot subscript `floating`.
    Reals = NDArray[np.floating[Any]]

# Penalties that are tried, as multiples of the mean eigenvalue.
PENALTIES = np.logspace(-4, 3, 15)
# Logits are an indicator's fit times a scale between these.
SCALES = (0.1, 100.0)
# A picture's own share in its fit; where it is all of it, nothing is known without the picture.
MOST_LEVERAGE = 1 - 1e-9


@dataclass(frozen=True)
class Head:
    """A linear layer: logits [N,K] = embeddings [N,D] @ weight.T + bias."""

    weight: Floats
    """f32[K,D]"""
    bias: Floats
    """f32[K]"""


@dataclass(frozen=True)
class RidgeFit:
    """A head whose logits are calibrated, and what it is worth on pictures it was not fitted to."""

    head: Head
    penalty: float
    scale: float
    """What the fit to indicators of -1 and 1 was multiplied by."""
    held_out: Reals
    """Logits [P,K] of each picture, from the head fitted without it."""


def fit_ridge(embeddings: Floats, labels: Labels, classes: int) -> RidgeFit:
    """Fit a head to `embeddings` f32[P,D] with `labels` i64[P]; every class has a picture at least.

    Classes weigh the same, however many pictures they have.
    """
    problem = _Problem.of(embeddings, labels, classes)
    # Embeddings that are all the same have no eigenvalue; any penalty will do then.
    unit = float(problem.values.mean()) or 1.0
    tried = []
    for penalty in PENALTIES * unit:
        held_out = problem.held_out(penalty)
        scale, loss = calibrated(held_out, labels, problem.weights)
        tried.append((loss, float(penalty), scale))
    _, penalty, scale = min(tried)
    head = problem.head(penalty, scale)
    return RidgeFit(head, penalty, scale, problem.held_out(penalty) * scale)


def solve_ridge(embeddings: Floats, labels: Labels, classes: int, penalty: float) -> Head:
    """Fit a head with a known penalty and logits between -1 and 1, as `fit_ridge` does else."""
    return _Problem.of(embeddings, labels, classes).head(penalty, 1.0)


@dataclass(frozen=True)
class _Problem:
    """Centred and weighted pictures, and what `eigh` makes of their products."""

    x: Reals
    """[P,D], rows times the root of their weight."""
    y: Reals
    """[P,K], likewise."""
    mean_x: Reals
    mean_y: Reals
    weights: Reals
    """[P], their mean is 1."""
    values: Reals
    """Eigenvalues [R] of the products of pictures (R = P) or of features (R = D)."""
    vectors: Reals
    basis: Reals
    """Orthogonal directions [P,R] in each of which a penalty shrinks the targets."""

    @classmethod
    def of(cls, embeddings: Floats, labels: Labels, classes: int) -> _Problem:
        weights = balanced(labels, classes)
        # Single precision changes the head by one part in a million, and is half the memory.
        root = np.sqrt(weights).astype(np.float32)[:, None]
        x = embeddings.astype(np.float32)
        y = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0).astype(np.float32)
        # As a product: `np.average` would make a copy of x in double precision.
        mean_x = (weights / weights.sum()).astype(np.float32) @ x
        mean_y = np.average(y, 0, weights).astype(np.float32)
        x -= mean_x
        x *= root
        y = (y - mean_y) * root
        by_picture = x.shape[0] <= x.shape[1]
        values, vectors = np.linalg.eigh(x @ x.T if by_picture else x.T @ x)
        values = np.maximum(values, 0.0)
        if by_picture:
            basis = vectors
        else:
            lengths = np.sqrt(values)
            basis = (x @ vectors) / np.where(lengths > 0, lengths, 1.0)
        return cls(x, y, mean_x, mean_y, weights, values, vectors, basis)

    def held_out(self, penalty: float) -> Reals:
        """The fit [P,K] of each picture's indicators without that picture, and without weights."""
        shrinkage = self.values / (self.values + penalty)
        fit = self.basis @ (shrinkage[:, None] * (self.basis.T @ self.y))
        leverage = (self.basis**2) @ shrinkage + self.weights / self.weights.sum()
        left = 1.0 - np.minimum(leverage, MOST_LEVERAGE)
        held_out = self.y - (self.y - fit) / left[:, None]
        result: Reals = held_out / np.sqrt(self.weights)[:, None] + self.mean_y
        return result

    def head(self, penalty: float, scale: float) -> Head:
        shrunk = 1.0 / (self.values + penalty)
        if self.basis is self.vectors:
            weight = self.x.T @ (self.vectors @ (shrunk[:, None] * (self.vectors.T @ self.y)))
        else:
            target = self.vectors.T @ (self.x.T @ self.y)
            weight = self.vectors @ (shrunk[:, None] * target)
        bias = self.mean_y - self.mean_x @ weight
        return Head(
            np.ascontiguousarray((weight.T * scale).astype(np.float32)),
            (bias * scale).astype(np.float32),
        )


def balanced(labels: Labels, classes: int) -> Reals:
    """Weights [P] of mean 1 with which every class counts alike."""
    counts = np.bincount(labels, minlength=classes)
    result: Reals = len(labels) / (np.count_nonzero(counts) * counts[labels].astype(np.float64))
    return result


def calibrated(fit: Reals, labels: Labels, weights: Reals) -> tuple[float, float]:
    """Return the scale at which `fit` [P,K] gives the smallest cross-entropy, and the latter.

    The cross-entropy is convex in the scale, so golden-section search finds its least. Of the
    labels one part in P + 1 is taken as spread over all classes (Laplace's rule of succession):
    that all of a few pictures are right is no proof that all are.
    """
    low, high = (math.log(scale) for scale in SCALES)
    spread = 1.0 / (len(labels) + 1)

    def loss(log_scale: float) -> float:
        return _smoothed_cross_entropy(fit * math.exp(log_scale), labels, weights, spread)

    log_scale, smallest = least(loss, low, high)
    return math.exp(log_scale), smallest


def _smoothed_cross_entropy(logits: Reals, labels: Labels, weights: Reals, spread: float) -> float:
    log_shares = log_softmax(logits)
    of_label = log_shares[np.arange(len(labels)), labels]
    return -float(
        np.average((1 - spread) * of_label + spread * log_shares.mean(axis=1), weights=weights)
    )
