"""Pictures that are nearly the same: a validation picture that was trained on proves little.

Embeddings find candidates without a picture being decoded; small grey copies of those confirm them,
because two pictures of one kind of thing may well have embeddings that are close. How close is like
is too like the labels say: pictures of two classes are hardly ever copies of each other.
docs/review.md says what is found and what is not.

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

# A copy is among so many nearest embeddings, with a cosine of at least this.
NEAREST = 3
LEAST_COSINE = 0.5
# The grey copies of both have a correlation of at least the first; of more where more than a small
# share of candidates of two classes have so, as all solar cells do; and of no more than the last.
LEAST_CORRELATION, MOST_CORRELATION = 0.9, 0.98
TWO_CLASSES = 0.03
# Above this the pictures are all so alike that copies are hard to tell.
ALIKE = 0.93
SIDE, COARSE = 64, 16
# A copy may be cropped: these shares of the other one's sides are compared as well, at nine places.
CROPS = (0.92, 0.85)
# Pictures whose cosines are computed at a time: 256 x 8000 numbers are 8 MB.
_AT_ONCE = 256
# Returns a picture's grey copy [S,S], or None where it cannot be decoded.
Grey = Callable[[int], Optional[Pixels]]


@dataclass(frozen=True)
class Pair:
    """Two rows, `first` smaller, that are nearly the same picture."""

    first: int
    second: int
    cosine: float
    correlation: float


def candidates(embeddings: Floats) -> list[tuple[int, int, float]]:
    """Return rows of f32[P,D] that may be copies, and their cosine, the closest first.

    Cosines are those of centred roots: what all embeddings have in common says nothing.
    """
    x = rooted(embeddings)
    x -= x.mean(axis=0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(x), _AT_ONCE):
        for row, line in enumerate(x[start : start + _AT_ONCE] @ x.T, start):
            line[row] = -1.0
            for other in np.argsort(-line, kind="stable")[:NEAREST]:
                if line[other] >= LEAST_COSINE:
                    found[min(row, int(other)), max(row, int(other))] = float(line[other])
    return sorted(((*rows, cosine) for rows, cosine in found.items()), key=lambda one: -one[2])


def confirmed(
    pairs: list[tuple[int, int, float]], labels: Labels, grey: Grey
) -> tuple[list[Pair], float]:
    """Return the `pairs` whose grey copies agree, the most alike first, and how alike that is."""
    found = []
    for first, second, cosine in pairs:
        one, other = grey(first), grey(second)
        if one is not None and other is not None:
            found.append(Pair(first, second, cosine, likeness(one, other)))
    least = _least_correlation(
        [pair.correlation for pair in found if labels[pair.first] != labels[pair.second]]
    )
    found = [pair for pair in found if pair.correlation >= least]
    return sorted(found, key=lambda pair: (-pair.correlation, pair.first, pair.second)), least


def _least_correlation(two_classes: list[float]) -> float:
    """Return the correlation that hardly any candidates of two classes have."""
    if not two_classes:
        return LEAST_CORRELATION
    usual = float(np.quantile(two_classes, 1 - TWO_CLASSES))
    return min(max(usual, LEAST_CORRELATION), MOST_CORRELATION)


def likeness(one: Pixels, other: Pixels) -> float:
    """Return the highest correlation of a grey copy [S,S] with the other or a crop of it.

    Either may be the crop, and either may be mirrored.
    """
    crops, others = _crops(one), _crops(other)
    # The places of crops are symmetric, so mirrored crops are the crops of the mirrored picture.
    mirrored = crops.reshape(-1, COARSE, COARSE)[:, :, ::-1].reshape(len(crops), -1)
    return max(
        max(float((others @ first[0]).max()), float((first @ others[0]).max()))
        for first in (crops, mirrored)
    )


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
