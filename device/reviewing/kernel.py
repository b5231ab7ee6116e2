"""Pictures as numbers between which a linear head can draw curved borders.

A head on a Gaussian kernel's features answers held-out pictures better than one on embeddings
themselves, so what it contradicts is worth more (docs/review.md). The kernel is a weighted sum of
one for each part of a description: two pictures may be alike in what the last layer makes of them,
or in what the channels of the map before it hold. L pictures are landmarks; with all of them as
landmarks the products of the features are the kernel, with fewer an approximation (Williams,
Seeger, Using the Nystrom Method to Speed Up Kernel Machines, NIPS 2000).

Letters: P pictures, D numbers in an embedding, C channels of a map, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple, Union

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels

# A kernel falls to exp(-SHARPNESS) at the median distance of two landmarks.
SHARPNESS = 1.0
# Of the embedding, and of means and deviations of the map's channels: the three that together
# contradict wrong labels best, maxima added nothing (docs/review.md).
WEIGHTS = (0.5, 0.25, 0.25)
# Directions in which landmarks hardly differ, as parts of the largest eigenvalue, are left out.
LEAST_EIGENVALUE = 1e-6

# The parts of some pictures' description, [P, any] each.
Parts = Tuple[Floats, ...]
Rows = Union[slice, Labels, Sequence[int]]


@dataclass(frozen=True)
class Described:
    """What the network that a bundle begins with makes of pictures."""

    embeddings: Floats
    """f32[P,D]"""
    means: Floats
    """f32[P,C], of each channel of the map that the frozen layers give."""
    deviations: Floats
    """f32[P,C], standard deviations likewise."""

    def of(self, rows: Rows) -> Described:
        """Return some of the pictures."""
        return Described(self.embeddings[rows], self.means[rows], self.deviations[rows])

    def parts(self, rows: Rows) -> Parts:
        """Return what kernels are taken of, for some pictures."""
        return rooted(self.embeddings[rows]), self.means[rows], self.deviations[rows]


@dataclass(frozen=True)
class Kernel:
    """Landmarks of each part [L, any], what its squared distances are divided by, and what turns
    kernels to landmarks into features.
    """

    landmarks: Parts
    scales: tuple[float, ...]
    projection: Floats
    """f32[L,R]"""

    def features(self, parts: Parts) -> Floats:
        """Return features f32[P,R] of pictures with `parts`."""
        near = np.zeros((len(parts[0]), len(self.projection)), np.float32)
        for x, landmarks, scale, weight in zip(parts, self.landmarks, self.scales, WEIGHTS):
            distances = _distances(x, landmarks) / np.float32(-scale)
            near += np.float32(weight) * np.exp(distances, out=distances)
        result: Floats = near @ self.projection
        return result


def fit_kernel(landmarks: Parts) -> Kernel:
    """Make a kernel with landmarks that have these parts [L, any], L at least 1."""
    count = len(landmarks[0])
    scales = []
    products = np.zeros((count, count), np.float32)
    for part, weight in zip(landmarks, WEIGHTS):
        distances = _distances(part, part)
        # Of every two landmarks once; `np.triu_indices` would take twice the distances' memory.
        between = distances[~np.tri(count, dtype=bool)]
        # Of pictures that are all the same, any scale will do.
        median = (float(np.median(between)) if len(between) else 0.0) or 1.0
        scales.append(median / SHARPNESS)
        distances /= np.float32(-scales[-1])
        products += np.float32(weight) * np.exp(distances, out=distances)
    values, vectors = np.linalg.eigh(products)
    kept = values > LEAST_EIGENVALUE * values[-1]
    projection = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    return Kernel(landmarks, tuple(scales), projection)


def rooted(embeddings: Floats) -> Floats:
    """Return roots f32[P,D], signs kept: means of activations are skewed, their roots less so."""
    x = np.asarray(embeddings, np.float32)
    result: Floats = np.sign(x) * np.sqrt(np.abs(x))
    return result


def channel_statistics(maps: Floats) -> tuple[Floats, Floats]:
    """Return means and standard deviations f32[P,C] of the channels of maps [P,C,h,w]."""
    flat = maps.reshape(*maps.shape[:2], -1)
    return flat.mean(axis=2, dtype=np.float32), flat.std(axis=2, dtype=np.float32)


def _distances(x: Floats, y: Floats) -> Floats:
    """Return squared distances f32[P,L] of rows of `x` [P, any] and `y` [L, any]."""
    result: Floats = x @ y.T
    result *= np.float32(-2)
    result += (x * x).sum(axis=1)[:, None]
    result += (y * y).sum(axis=1)
    return np.maximum(result, 0, out=result)
