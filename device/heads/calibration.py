"""One temperature that makes probabilities mean what they say, fitted on held-out pictures.

Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2):
probabilities are the softmax of logits / T. It changes no label.

Letters: P pictures, K classes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mobiletl.device.bundle.arrays import Labels
from mobiletl.device.heads.search import least
from mobiletl.device.heads.softmax import log_softmax, softmax

# Python 3.8 cannot evaluate `np.floating[Any]`.
Reals = NDArray[Any]

# Temperatures that are considered.
TEMPERATURES = (0.05, 20.0)


class Prior(NamedTuple):
    """What is expected of a temperature: its logarithm is normal around that of `centre`."""

    centre: float
    width: float
    """Standard deviation of the logarithm."""


# Of a few pictures, all of them right, the likelihood alone would ask for certainty. Networks that
# are trained on few pictures tend to be too sure (docs/honest.md).
TRAINED_PRIOR = Prior(1.5, 0.5)
# Where all pictures that were solved for have chosen the scale of the logits, each held out, only
# pictures that are unlike them have something to add.
SOLVED_PRIOR = Prior(1.0, 0.2)
BINS = 15
# How often labels are drawn to find out what error chance alone makes.
DRAWS = 200


def fit_temperature(logits: Reals, labels: Labels, prior: Prior) -> float:
    """Return the temperature for `logits` [P,K] of pictures that the head was not fitted to.

    It is the most probable one. Without pictures that is the prior's centre, and the more there are
    the less the prior weighs.
    """

    centre = math.log(prior.centre)

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        of_labels = log_softmax(scaled)[np.arange(len(labels)), labels]
        return -float(of_labels.sum()) + 0.5 * ((log_temperature - centre) / prior.width) ** 2

    place, _ = least(loss, math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    return math.exp(place)


def calibration_error(logits: Reals, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al., equation 3) of `logits` [P,K], 0 to 1.

    Pictures are put into bins of equal width by the probability of their label; of each bin the
    mean probability is compared with the share that is right. Of few pictures it is far from 0
    where every probability is true: `errors_by_chance` says how far.
    """
    shares = softmax(logits)
    right = shares.argmax(axis=1) == labels
    return _error(shares.max(axis=1), right, bins)


def errors_by_chance(logits: Reals, bins: int = BINS, draws: int = DRAWS) -> Reals:
    """Calibration errors [draws] that pictures with `logits` show if their probabilities are true.

    Whether a picture is named rightly is drawn with the probability that it is given (consistency
    resampling: Broecker and Smith, Weather and Forecasting 22, 2007).
    """
    sure = softmax(logits).max(axis=1)
    generator = np.random.default_rng(0)
    return np.array([_error(sure, generator.random(len(sure)) < sure, bins) for _ in range(draws)])


def _error(sure: Reals, right: Reals, bins: int) -> float:
    places = np.minimum((sure * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, sure - right, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(sure), 1))
