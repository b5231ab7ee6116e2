"""One temperature that makes probabilities mean what they say, fitted on held-out pictures.

Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2):
probabilities are the softmax of logits / T. It changes no label.

Letters: P pictures, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobiletl.device.bundle.arrays import Labels
from mobiletl.device.heads.search import least
from mobiletl.device.heads.softmax import log_softmax, softmax

# Python 3.8 cannot evaluate `np.floating[Any]`.
Reals = NDArray[Any]

# Temperatures that are considered.
TEMPERATURES = (0.05, 20.0)
# How far from 1 a temperature is expected to lie, as a standard deviation of its logarithm. Of a
# few pictures, all of them right, the likelihood alone would ask for certainty.
PRIOR_WIDTH = 0.5
BINS = 15


def fit_temperature(logits: Reals, labels: Labels) -> float:
    """Return the temperature for `logits` [P,K] of pictures that the head was not fitted to.

    It is the most probable one where log T is normal around 0 (PRIOR_WIDTH) before a picture is
    seen. So it is 1 without pictures, and the more pictures there are the less the prior weighs.
    """

    def loss(log_temperature: float) -> float:
        scaled = logits / math.exp(log_temperature)
        of_labels = log_softmax(scaled)[np.arange(len(labels)), labels]
        return -float(of_labels.sum()) + 0.5 * (log_temperature / PRIOR_WIDTH) ** 2

    place, _ = least(loss, math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))
    return math.exp(place)


def calibration_error(logits: Reals, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al., equation 3) of `logits` [P,K], 0 to 1.

    Pictures are put into bins of equal width by the probability of their label; of each bin the
    mean probability is compared with the share that is right. Of P pictures it is some
    0.5 * sqrt(bins in use / P) even where every probability is true.
    """
    shares = softmax(logits)
    sure = shares.max(axis=1)
    right = shares.argmax(axis=1) == labels
    places = np.minimum((sure * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(places, sure - right, minlength=bins)
    return float(np.abs(gaps).sum() / max(len(labels), 1))
