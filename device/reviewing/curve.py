"""Which class would gain from more pictures: heads fitted to growing shares of those there are.

In every draw some pictures of each class are held out; heads are fitted to a quarter, a half and
all of the others, and answer those held out. The last doubling is what the next one may bring, at
most: curves flatten. Its uncertainty counts pictures, not draws, which all share the pictures.

Letters: P pictures, R features of a picture, K classes, S shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobiletl.device.bundle.arrays import Floats, Labels
from mobiletl.device.heads.ridge import solve_ridge

Doubles = NDArray[np.float64]

SHARES = (0.25, 0.5, 1.0)
DRAWS = 8
# So much of each class is held out in a draw.
HELD_OUT = 0.25
# A class that is so often right has little to gain.
ENOUGH = 0.95
# Fewer pictures of a class say nothing about it.
LEAST_PICTURES = 4
GAINS, ENOUGH_ALREADY, LEVEL, UNCLEAR = "gains", "enough", "level", "unclear"


@dataclass(frozen=True)
class ClassCurve:
    """Accuracy of one class with growing shares of pictures, and what the last doubling brought."""

    pictures: int
    accuracy: tuple[float, ...]
    """By share; not a number where no picture of the class was held out."""
    gain: float
    """Accuracy with all less that with half of the pictures."""
    error: float
    """Standard error of `gain`."""

    @property
    def verdict(self) -> str:
        """What the curve allows to say."""
        if self.pictures < LEAST_PICTURES or math.isnan(self.gain):
            return UNCLEAR
        if self.accuracy[-1] >= ENOUGH:
            return ENOUGH_ALREADY
        if self.gain > 2 * self.error:
            return GAINS
        return LEVEL if self.gain + 2 * self.error < 1 - ENOUGH else UNCLEAR


@dataclass(frozen=True)
class Curve:
    """The curve of all classes together, each class alike, and of each."""

    shares: tuple[float, ...]
    pictures: tuple[int, ...]
    """How many pictures the heads were fitted to, by share."""
    accuracy: tuple[float, ...]
    classes: tuple[ClassCurve, ...]


def learning_curve(
    features: Floats, labels: Labels, classes: int, penalty: float, seed: int = 0
) -> Curve:
    """Fit heads with `penalty` to parts of `features` f32[P,R] with `labels` [P]."""
    right = np.zeros((len(SHARES), len(labels)))
    asked = np.zeros(len(labels))
    fitted = [0] * len(SHARES)
    for draw in range(DRAWS):
        turns, held = _draw(labels, np.random.default_rng((seed, draw)))
        asked[held] += 1
        for place, share in enumerate(SHARES):
            rows = np.flatnonzero(~held & (turns < share))
            head = solve_ridge(features[rows], labels[rows], classes, penalty)
            said = (features[held] @ head.weight.T + head.bias).argmax(axis=1)
            right[place, held] += said == labels[held]
            fitted[place] = len(rows)
    known = asked > 0
    hits = right[:, known] / asked[known]
    curves = tuple(
        _class_curve(hits[:, labels[known] == k], int((labels == k).sum())) for k in range(classes)
    )
    means = np.array([curve.accuracy for curve in curves if not math.isnan(curve.gain)])
    overall = tuple(float(value) for value in means.mean(axis=0)) if len(means) else ()
    return Curve(SHARES, tuple(fitted), overall, curves)


def _draw(labels: Labels, draws: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Return each picture's place [P] in its class, a share of it, and which are held out [P].

    A class of one picture keeps it; every part that is fitted has one of each class.
    """
    turns = np.zeros(len(labels), np.float32)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mine = draws.permutation(np.flatnonzero(labels == label))
        out = min(max(round(HELD_OUT * len(mine)), 1), len(mine) - 1)
        held[mine[:out]] = True
        turns[mine[out:]] = np.arange(len(mine) - out) / (len(mine) - out)
    return turns, held


def _class_curve(hits: Doubles, pictures: int) -> ClassCurve:
    """Sum up how often [S,P] each picture of a class was right, over the draws that held it out."""
    count = hits.shape[1]
    if count == 0:
        nothing = float("nan")
        return ClassCurve(pictures, (nothing,) * len(hits), nothing, nothing)
    gains = hits[-1] - hits[-2]
    # Half a picture more and half a picture less: no gain at all in four pictures proves nothing.
    spread = (float((gains - gains.mean()).dot(gains - gains.mean())) + 0.5) / max(count - 1, 1)
    accuracy = tuple(float(value) for value in hits.mean(axis=1))
    return ClassCurve(pictures, accuracy, float(gains.mean()), math.sqrt(spread / count))


def sentence(curve: Curve, names: tuple[str, ...]) -> str:
    """Say which classes want pictures and which do not, as a person would."""
    by_verdict: dict[str, list[int]] = {}
    for label, one in enumerate(curve.classes):
        by_verdict.setdefault(one.verdict, []).append(label)
    gaining = sorted(by_verdict.get(GAINS, []), key=lambda k: -curve.classes[k].gain)
    parts = []
    if gaining:
        parts.append(f"{_listed(gaining, names)} would gain most from more pictures")
    else:
        parts.append("no class clearly gains from more pictures of the same kind")
    settled = by_verdict.get(ENOUGH_ALREADY, [])
    if settled:
        parts.append(f"{_listed(settled, names)} {'have' if len(settled) > 1 else 'has'} enough")
    level = by_verdict.get(LEVEL, [])
    if level:
        more = "rather need other pictures, or correct labels, than more"
        parts.append(
            f"{_listed(level, names)} no longer gain{'' if len(level) > 1 else 's'}: {more}"
        )
    if by_verdict.get(UNCLEAR):
        parts.append("of the others there are too few pictures to tell")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _listed(labels: list[int], names: tuple[str, ...], most: int = 3) -> str:
    shown = [f"'{names[label]}'" for label in labels[:most]]
    if len(labels) > most:
        return f"{', '.join(shown)} and {len(labels) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]
