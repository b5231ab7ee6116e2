"""Pictures that are nearly the same: a validation picture that was trained on proves little.

Embeddings find candidates without a picture being decoded; small grey copies of those confirm them,
because two pictures of one kind of thing may well have embeddings that are close. How close is too
close the labels say: pictures of two classes are hardly ever copies of each other. docs/review.md
says what is found and what is not.

Letters: P pictures, D numbers in an embedding, S = SIDE and s = COARSE pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Floats, Labels, Pixels
from mobiletl.device.reviewing.kernel import rooted

# Embeddings of copies have a cosine of at least this, and of more where pictures of two classes
# have so, but for so small a share of them; and of no more than that.
LEAST_COSINE = 0.5
TWO_CLASSES = 1e-4
MOST_COSINE = 0.9
# The grey copies of both have a correlation of at least this.
LEAST_CORRELATION = 0.9
SIDE, COARSE = 64, 16
# A copy may be cropped: these shares of the other one's sides are compared as well, at nine places.
CROPS = (0.92, 0.85)
# So many neighbours of one picture are candidates at most: a film has thousands.
MOST_EACH = 8
# Pictures whose cosines are computed at a time: 256 x 8000 numbers are 8 MB.
_AT_ONCE = 256
# Cosines are counted in so many steps between -1 and 1.
_STEPS = 2000

# Returns a picture's grey copy [S,S], or None where it cannot be decoded.
Grey = Callable[[int], Optional[Pixels]]


@dataclass(frozen=True)
class Pair:
    """Two rows, `first` smaller, that are nearly the same picture."""

    first: int
    second: int
    cosine: float
    correlation: float


def candidates(embeddings: Floats, labels: Labels) -> list[tuple[int, int, float]]:
    """Return rows of f32[P,D] with labels [P] that may be copies, the closest first.

    Cosines are those of centred roots: what all embeddings have in common says nothing.
    """
    x = rooted(embeddings)
    x -= x.mean(axis=0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    counts = np.zeros(_STEPS, np.int64)
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(x), _AT_ONCE):
        rows = range(start, min(start + _AT_ONCE, len(x)))
        cosines = x[rows.start : rows.stop] @ x.T
        counts += _histogram(cosines[labels[rows.start : rows.stop, None] != labels])
        for row, line in zip(rows, cosines):
            line[: row + 1] = -1.0
            near = np.flatnonzero(line >= LEAST_COSINE)
            near = near[np.argsort(-line[near], kind="stable")][:MOST_EACH]
            found += [(row, int(other), float(line[other])) for other in near]
    least = _least_cosine(counts)
    return sorted((pair for pair in found if pair[2] >= least), key=lambda pair: -pair[2])


def _histogram(cosines: Floats) -> Labels:
    steps = ((cosines + 1) * (_STEPS / 2)).astype(np.int64)
    return np.bincount(np.clip(steps, 0, _STEPS - 1), minlength=_STEPS).astype(np.int64)


def _least_cosine(counts: Labels) -> float:
    """Return the cosine that hardly any pictures of two classes have, of a histogram of theirs."""
    # Each pair was counted twice.
    allowed = TWO_CLASSES * counts.sum() / 2
    above = np.cumsum(counts[::-1])[::-1] / 2
    step = int(np.count_nonzero(above > allowed))
    return min(max(step / (_STEPS / 2) - 1, LEAST_COSINE), MOST_COSINE)


def confirmed(pairs: list[tuple[int, int, float]], grey: Grey) -> list[Pair]:
    """Return the `pairs` whose grey copies agree, the most alike first."""
    found = []
    for first, second, cosine in pairs:
        one, other = grey(first), grey(second)
        if one is None or other is None:
            continue
        agreement = likeness(one, other)
        if agreement >= LEAST_CORRELATION:
            found.append(Pair(first, second, cosine, agreement))
    return sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second))


def likeness(one: Pixels, other: Pixels) -> float:
    """Return the highest correlation of a grey copy [S,S] with the other or a crop of it.

    Either may be the crop, and either may be mirrored.
    """
    best = -1.0
    for first in (one, np.ascontiguousarray(one[:, ::-1])):
        crops, others = _crops(first), _crops(other)
        best = max(best, float((others @ crops[0]).max()), float((crops @ others[0]).max()))
    return best


def _crops(grey: Pixels) -> Floats:
    """Return the whole and its crops, coarse and of unit length: f32[1 + 9 per share, s * s]."""
    found = [_coarse(grey)]
    for share in CROPS:
        side = round(share * SIDE)
        places = (0, (SIDE - side) // 2, SIDE - side)
        found += [_coarse(grey[y : y + side, x : x + side]) for y in places for x in places]
    return np.array(found)


def _coarse(grey: Pixels) -> Floats:
    image = Image.fromarray(grey).resize((COARSE, COARSE), Image.Resampling.BOX)
    values = np.asarray(image, np.float32).reshape(-1)
    centred: Floats = values - values.mean()
    length = math.sqrt(float(centred @ centred))
    # A picture of one grey is like no other.
    centred /= np.float32(length or 1.0)
    return centred


def grey_copy(image: Image.Image) -> Pixels:
    """Return `image` as u8[S,S] grey, whatever its shape was."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small.convert("L"), np.uint8)
