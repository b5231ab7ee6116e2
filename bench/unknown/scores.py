"""Scores that are tried: high for pictures of the known classes.

Letters: P pictures to fit to, Q pictures to score, D numbers in an embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.heads.calibration import Reals
from mobiletl.device.heads.softmax import log_softmax
from mobiletl.device.heads.unknown import Familiar, score, strangeness


@dataclass(frozen=True)
class Known:
    """Embeddings [P,D] and labels [P] of the pictures trained on, where such lie, the fitted
    temperature, and the weight of what is strange.
    """

    embeddings: Floats
    labels: Labels
    familiar: Familiar
    temperature: float
    weight: float


@dataclass(frozen=True)
class Seen:
    """Embeddings [Q,D] and logits [Q,K] of pictures to score."""

    embeddings: Floats
    logits: Reals


def maximum_probability(known: Known, seen: Seen) -> Reals:
    """Hendrycks and Gimpel, ICLR 2017."""
    result: Reals = log_softmax(seen.logits / known.temperature).max(axis=1)
    return result


def maximum_logit(known: Known, seen: Seen) -> Reals:
    """Hendrycks et al., ICML 2022."""
    result: Reals = seen.logits.max(axis=1)
    return result


def energy(known: Known, seen: Seen) -> Reals:
    """Liu et al., NeurIPS 2020."""
    largest = seen.logits.max(axis=1)
    result: Reals = largest + np.log(np.exp(seen.logits - largest[:, None]).sum(axis=1))
    return result


def mahalanobis(known: Known, seen: Seen) -> Reals:
    """Lee et al., NeurIPS 2018: the nearest class mean, one covariance, shrunk (Ledoit, Wolf)."""
    means = _means(known)
    precision = _precision(known.embeddings - means[known.labels])
    result: Reals = -_distances(seen.embeddings, means, precision).min(axis=1)
    return result


def relative_mahalanobis(known: Known, seen: Seen) -> Reals:
    """Ren et al., 2021: less the distance to the mean of all, in the covariance of all."""
    mean = known.embeddings.mean(axis=0, keepdims=True)
    everything = _precision(known.embeddings - mean)
    return mahalanobis(known, seen) + _distances(seen.embeddings, mean, everything)[:, 0]


def nearest_neighbour(known: Known, seen: Seen) -> Reals:
    """Sun et al., ICML 2022, with k = 1: the cosine to the nearest picture."""
    result: Reals = (_unit(seen.embeddings) @ _unit(known.embeddings).T).max(axis=1)
    return result


def residual(known: Known, seen: Seen) -> Reals:
    """The second term of ours alone."""
    return -strangeness(seen.embeddings, known.familiar)


def ours(known: Known, seen: Seen) -> Reals:
    """heads/unknown.py."""
    strange = strangeness(seen.embeddings, known.familiar)
    return score(seen.logits, strange, known.temperature, known.weight)


SCORES: Mapping[str, Callable[[Known, Seen], Reals]] = {
    "maximum probability": maximum_probability,
    "maximum logit": maximum_logit,
    "energy": energy,
    "Mahalanobis": mahalanobis,
    "relative Mahalanobis": relative_mahalanobis,
    "nearest neighbour": nearest_neighbour,
    "residual": residual,
    "maximum logit and residual": ours,
}


def area(known: Reals, unknown: Reals) -> float:
    """Area under the ROC curve: how often a known picture scores above an unknown one."""
    ordered = np.sort(unknown)
    below = np.searchsorted(ordered, known, "left") + np.searchsorted(ordered, known, "right")
    return float(below.sum() / (2 * len(known) * len(unknown)))


def accepted_at(known: Reals, unknown: Reals, share: float = 0.95) -> float:
    """Share of unknown pictures that pass where `share` of the known ones do."""
    return float((unknown >= np.quantile(known, 1 - share)).mean())


def _means(known: Known) -> Reals:
    classes = int(known.labels.max()) + 1
    return np.stack([known.embeddings[known.labels == k].mean(axis=0) for k in range(classes)])


def _unit(x: Floats) -> Reals:
    result: Reals = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return result


def _precision(centred: Reals) -> Reals:
    """Inverse [D,D] of the covariance, shrunk as scikit-learn's LedoitWolf does."""
    from sklearn.covariance import LedoitWolf

    result: Reals = np.linalg.inv(LedoitWolf(assume_centered=True).fit(centred).covariance_)
    return result


def _distances(x: Reals, means: Reals, precision: Reals) -> Reals:
    columns = [np.einsum("qd,qd->q", (x - mean) @ precision, x - mean) for mean in means]
    return np.stack(columns, axis=1)
