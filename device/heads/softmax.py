"""From logits to probabilities, in double precision. Letters: P pictures, K classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def log_softmax(logits: NDArray[Any]) -> Doubles:
    """Logarithm of each row's probabilities [P,K]; not finite where a logit is not."""
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        result: Doubles = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def softmax(logits: NDArray[Any]) -> Doubles:
    """Each row's probabilities [P,K]."""
    result: Doubles = np.exp(log_softmax(logits))
    return result
