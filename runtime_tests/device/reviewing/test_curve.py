"""Which class gains from more pictures: one that is hard, one that is easy, one of few pictures."""

from __future__ import annotations

import math

import numpy as np

from mobiletl.device.reviewing.curve import (
    ENOUGH_ALREADY,
    GAINS,
    LEVEL,
    UNCLEAR,
    ClassCurve,
    Curve,
    learning_curve,
    sentence,
)


def curve_of(*classes: ClassCurve) -> Curve:
    return Curve((0.25, 0.5, 1.0), (10, 20, 40), (0.5, 0.6, 0.7), classes)


def test_a_hard_class_gains_and_an_easy_one_has_enough() -> None:
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 120)
    # The first two differ in many weak features, which takes pictures to learn.
    x = draws.normal(size=(360, 60))
    x[labels == 0] += 0.22
    x[labels == 1] -= 0.22
    x[labels == 2, :3] += 12.0
    found = learning_curve(x.astype(np.float32), labels, 3, penalty=1.0)
    assert found.pictures == (69, 135, 270)
    easy = found.classes[2]
    assert easy.verdict == ENOUGH_ALREADY
    assert easy.accuracy[-1] > 0.97
    both = found.classes[:2]
    assert GAINS in {one.verdict for one in both}
    assert all(one.gain > 0 for one in both)
    again = learning_curve(x.astype(np.float32), labels, 3, penalty=1.0)
    assert again == found


def test_a_class_of_one_picture_is_unclear() -> None:
    x = np.random.default_rng(1).normal(size=(21, 5)).astype(np.float32)
    found = learning_curve(x, np.array([0] * 10 + [1] * 10 + [2]), 4, penalty=1.0)
    assert found.classes[2].verdict == found.classes[3].verdict == UNCLEAR
    assert math.isnan(found.classes[2].gain)
    assert found.classes[3].pictures == 0


def test_the_verdicts() -> None:
    assert ClassCurve(50, (0.5, 0.6, 0.8), 0.2, 0.05).verdict == GAINS
    assert ClassCurve(50, (0.9, 0.9, 0.99), 0.2, 0.05).verdict == ENOUGH_ALREADY
    assert ClassCurve(500, (0.7, 0.7, 0.7), 0.0, 0.01).verdict == LEVEL
    assert ClassCurve(50, (0.7, 0.7, 0.7), 0.0, 0.08).verdict == UNCLEAR
    assert ClassCurve(3, (0.5, 0.6, 0.8), 0.2, 0.05).verdict == UNCLEAR


def test_the_sentence() -> None:
    gains = ClassCurve(50, (0.5, 0.6, 0.8), 0.2, 0.05)
    more = ClassCurve(50, (0.5, 0.6, 0.9), 0.3, 0.05)
    enough = ClassCurve(50, (1.0, 1.0, 1.0), 0.0, 0.02)
    level = ClassCurve(500, (0.7, 0.7, 0.7), 0.0, 0.01)
    assert sentence(curve_of(gains, enough), ("pear", "apple")) == (
        "'pear' would gain most from more pictures; 'apple' has enough."
    )
    text = sentence(curve_of(gains, more, enough, enough, level), ("a", "b", "c", "d", "e"))
    assert text.startswith("'b' and 'a' would gain most from more pictures; 'c' and 'd' have ")
    assert "'e' no longer gains" in text
    none = sentence(curve_of(enough), ("a",))
    assert none == "No class clearly gains from more pictures of the same kind; 'a' has enough."
