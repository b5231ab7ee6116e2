"""Embeddings as numbers between which a linear head can draw curved borders.

A head on a Gaussian kernel's features answers held-out pictures better than one on the embeddings
themselves, so what it contradicts is worth more (docs/review.md). L pictures are landmarks; with
all of them as landmarks the products of the features are the kernel, with fewer an approximation
(Williams, Seeger, Using the Nystrom Method to Speed Up Kernel Machines, NIPS 2000).

Letters: P pictures, D numbers in an embedding, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobiletl.device.bundle.arrays import Floats

# The kernel falls to exp(-SHARPNESS) at the median distance of two landmarks.
SHARPNESS = 2.0
# Directions in which landmarks hardly differ, as parts of the largest eigenvalue, are left out.
LEAST_EIGENVALUE = 1e-6


@dataclass(frozen=True)
class Kernel:
    """Landmarks [L,D] and what turns kernels to them into features."""

    landmarks: Floats
    scale: float
    """What squared distances are divided by."""
    projection: Floats
    """f32[L,R]"""

    def features(self, embeddings: Floats) -> Floats:
        """Return features f32[P,R] of `embeddings` [P,D]."""
        result: Floats = self._to_landmarks(rooted(embeddings)) @ self.projection
        return result

    def _to_landmarks(self, x: Floats) -> Floats:
        result: Floats = np.exp(_distances(x, self.landmarks) / -self.scale)
        return result


def fit_kernel(embeddings: Floats) -> Kernel:
    """Make a kernel with the landmarks `embeddings` [L,D], L at least 1."""
    landmarks = rooted(embeddings)
    distances = _distances(landmarks, landmarks)
    between = distances[np.triu_indices(len(landmarks), 1)]
    # Of pictures that are all the same, any scale will do.
    scale = (float(np.median(between)) if len(between) else 0.0) or 1.0
    scale /= SHARPNESS
    values, vectors = np.linalg.eigh(np.exp(distances / -scale))
    kept = values > LEAST_EIGENVALUE * values[-1]
    projection = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    return Kernel(landmarks, scale, projection)


def rooted(embeddings: Floats) -> Floats:
    """Return roots f32[P,D], signs kept: means of activations are skewed, their roots less so."""
    x = np.asarray(embeddings, np.float32)
    result: Floats = np.sign(x) * np.sqrt(np.abs(x))
    return result


def _distances(x: Floats, y: Floats) -> Floats:
    """Return squared distances f32[P,L] of rows of `x` [P,D] and `y` [L,D]."""
    squares = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)
    result: Floats = np.maximum(squares - 2 * (x @ y.T), 0)
    return result
