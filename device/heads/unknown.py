"""Whether a picture shows any of the known classes: a score, and the least that is accepted.

    familiarity(x) = max_k logit_k / T  -  WEIGHT * ||r(x)|| / ||x||

where r(x) is what is left of an embedding x once the mean of the training pictures is taken off,
and its part along their main directions. The first term falls where the classifier is torn between
classes or sees little of any (maximum logit: Hendrycks et al., Scaling Out-of-Distribution
Detection for Real-World Settings, ICML 2022). The second grows where the picture has what no
training picture has, which the classifier is blind to (the residual of ViM: Wang et al., CVPR 2022,
section 4.1). The two miss different pictures, so their sum beats both, and beat maximum
probability, energy, Mahalanobis distances and nearest neighbours (docs/honest.md).

It takes (R + 1) x D numbers, where a Mahalanobis distance takes D x D and nearest neighbours P x D.

Letters: P pictures, D numbers in an embedding, K classes, R directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.starting import multiplying

# Python 3.8 cannot evaluate `np.floating[Any]`.
Reals = NDArray[Any]

# Directions: 64 and 128 were no better, 16 lost 0.7 points of AUROC (docs/honest.md).
DIRECTIONS = 32
# Fewer pictures than three to a direction would leave nothing of themselves.
PICTURES_PER_DIRECTION = 3
# Of a classifier that was solved for. About the ratio of the standard deviations of both terms on
# held-out pictures: it was 17 to 31 where there were more than 20 of them, and fitting it to each
# set gained nothing.
SOLVED_WEIGHT = 20.0
# Of a network that was trained: its logits are sure of strange pictures, too, and its embeddings
# lie along fewer directions, so the residual tells more (docs/honest.md).
TRAINED_WEIGHT = 60.0
# The share of known pictures that is to be accepted.
ACCEPTANCE = 0.95
# With fewer held-out pictures than this there is no threshold.
LEAST_PICTURES = 4
# From here on the threshold is an order statistic, which supposes nothing of the scores.
MANY_PICTURES = 100
TINY = 1e-12


@dataclass(frozen=True)
class Familiar:
    """Where embeddings of training pictures lie: around a point, along a few directions."""

    centre: Floats
    """f32[D]"""
    directions: Floats
    """f32[R,D], orthonormal rows"""


def fit_familiar(embeddings: Floats, directions: int = DIRECTIONS) -> Familiar:
    """Take the principal directions of `embeddings` f32[P,D], from the P x P products of pictures.

    There are fewer than `directions` where pictures are few, or all alike.
    """
    centre = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    x = embeddings - centre
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
    most = min(directions, max(len(x) // PICTURES_PER_DIRECTION, 1))
    # `eigh` has the largest last. What is nothing but rounding is no direction.
    taken = [
        i for i in range(len(x) - 1, -1, -1)[:most] if values[i] > 1e-6 * max(values[-1], TINY)
    ]
    lengths = np.sqrt(values[taken])[:, None]
    rows = (vectors[:, taken].T / lengths).astype(np.float32) @ x
    return Familiar(centre, np.ascontiguousarray(rows, np.float32))


def strangeness(embeddings: Floats, familiar: Familiar) -> Reals:
    """Return ||r(x)|| / ||x|| of each row [P] of `embeddings` f32[P,D], at least 0."""
    x = embeddings.astype(np.float64)
    offset = x - familiar.centre
    with multiplying():
        along = offset @ familiar.directions.T
    left = np.maximum((offset**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
    lengths = np.maximum((x**2).sum(axis=1), TINY)
    result: Reals = np.sqrt(left / lengths)
    return result


def score(logits: Reals, strange: Reals, temperature: float, weight: float) -> Reals:
    """Return the familiarity [P] of pictures with `logits` [P,K] and strangeness `strange` [P]."""
    result: Reals = logits.max(axis=1) / temperature - weight * strange
    return result


def fit_threshold(scores: Reals, acceptance: float = ACCEPTANCE) -> float | None:
    """Return the score from which a picture is accepted, of `scores` [P] of held-out known ones.

    Of many pictures it is the k-th smallest score, k = floor((P + 1)(1 - acceptance)), which a
    further picture like them reaches with at least that probability (split conformal prediction;
    Vovk et al., Algorithmic Learning in a Random World, 2005). Of few pictures no score is far
    enough out for that, so they are taken as normal: the threshold is the lower end of the
    prediction interval of one more, mean - t * s * sqrt(1 + 1/P) with P - 1 degrees of freedom. It
    lies the further out the fewer there are, by just as much as s may be too small. Of fewer than
    LEAST_PICTURES it is None: then no picture is unknown.
    """
    count = len(scores)
    if count < LEAST_PICTURES:
        return None
    if count >= MANY_PICTURES:
        # Not 0.05 * 100 = 5.000000000000004, nor a little less.
        place = math.floor(round((count + 1) * (1 - acceptance), 9))
        return float(np.sort(scores)[max(place, 1) - 1])
    spread = float(scores.std(ddof=1)) * math.sqrt(1 + 1 / count)
    return float(scores.mean()) - student_quantile(acceptance, count - 1) * spread


def student_quantile(share: float, degrees: int) -> float:
    """Return the quantile of Student's t with `degrees` >= 3, right to 0.4 % for shares to 0.95.

    Abramowitz and Stegun, Handbook of Mathematical Functions, equation 26.7.5.
    """
    z: float = NormalDist().inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / float(degrees) ** power for power, term in enumerate(terms))
