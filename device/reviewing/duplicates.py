"""Pictures that are nearly the same: a validation picture that was trained on proves little.

Embeddings find candidates without a picture being decoded; small grey copies of those confirm them,
because two pictures of one kind of thing may well have embeddings that are close. Both limits are
measured in docs/review.md.

Letters: P pictures, D numbers in an embedding, S = SIDE pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Floats

# Embeddings of copies have a cosine of at least this.
LEAST_COSINE = 0.9
# And their grey copies a correlation of at least this.
LEAST_CORRELATION = 0.9
# A copy may be cropped: it is looked for at these places and sizes of the other one.
SIDE = 32
# So many neighbours of one picture are confirmed at most: a film has thousands.
MOST_EACH = 8
# Pictures whose cosines are computed at a time: 256 x 8000 numbers are 8 MB.
_AT_ONCE = 256

# Returns a picture's grey copy, or None where it cannot be decoded.
Grey = Callable[[int], "Floats | None"]


@dataclass(frozen=True)
class Pair:
    """Two rows, `first` smaller, that are nearly the same picture."""

    first: int
    second: int
    cosine: float
    correlation: float


def candidates(embeddings: Floats, least: float = LEAST_COSINE) -> list[tuple[int, int, float]]:
    """Return rows of f32[P,D] whose cosine is at least `least`, the closest first.

    Cosines of centred roots: most of what all embeddings have in common says nothing.
    """
    x = np.sqrt(np.abs(embeddings)) * np.sign(embeddings)
    x -= x.mean(axis=0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    found = []
    for start in range(0, len(x), _AT_ONCE):
        cosines = x[start : start + _AT_ONCE] @ x.T
        for row, line in enumerate(cosines, start):
            line[: row + 1] = -1.0
            near = np.flatnonzero(line >= least)
            near = near[np.argsort(-line[near], kind="stable")][:MOST_EACH]
            found += [(row, int(other), float(line[other])) for other in near]
    return sorted(found, key=lambda pair: -pair[2])


def confirmed(
    pairs: list[tuple[int, int, float]], grey: Grey, least: float = LEAST_CORRELATION
) -> list[Pair]:
    """Return the `pairs` whose grey copies agree, the most alike first."""
    found = []
    for first, second, cosine in pairs:
        one, other = grey(first), grey(second)
        if one is None or other is None:
            continue
        agreement = correlation(one, other)
        if agreement >= least:
            found.append(Pair(first, second, cosine, agreement))
    return sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def grey_copy(image: Image.Image) -> Floats:
    """Return `image` as f32[S,S] grey, whatever its shape was."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def correlation(one: Floats, other: Floats) -> float:
    """Return the correlation of two grey copies f32[S,S], 0 where one is of one grey."""
    x, y = one - one.mean(), other - other.mean()
    length = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / length if length > 0 else 0.0
