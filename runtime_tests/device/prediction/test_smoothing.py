"""Averages that forget in seconds, and changes that have to hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mobiletl.device.prediction.smoothing import Smoothed, Smoother

A, B = np.array([0.9, 0.1]), np.array([0.1, 0.9])


def played(smoother: Smoother, rate: float, *parts: tuple[np.ndarray, float]) -> list[Smoothed]:
    """Show each answer for so many seconds, `rate` times a second."""
    found, place = [], 0
    for shares, seconds in parts:
        for _ in range(round(seconds * rate)):
            found.append(smoother.see(shares, False, place / rate))
            place += 1
    return found


def test_the_first_answer_is_announced_at_once() -> None:
    first = Smoother(2).see(B, False, 0.0)
    assert (first.outcome, first.changed) == (1, True)
    assert first.probabilities == pytest.approx(B)
    assert first.unknown_share == 0


def test_after_a_time_constant_a_step_is_seen_to_63_percent() -> None:
    smoother = Smoother(2, time_constant_s=0.5, hold_s=0)
    smoother.see(np.array([1.0, 0.0]), False, 0.0)
    smoothed = [smoother.see(np.array([0.0, 1.0]), False, n / 100) for n in range(1, 51)]
    assert smoothed[-1].probabilities[1] == pytest.approx(1 - math.exp(-1), abs=1e-9)


@pytest.mark.parametrize("rate", [3, 10, 30])
def test_seconds_count_and_not_frames(rate: int) -> None:
    found = played(Smoother(2, 0.5, 0.3), rate, (A, 3), (B, 3))
    (change,) = [place for place, one in enumerate(found) if one.changed and place]
    # ln 2 of a time constant until the average has crossed, then the hold; a frame is late at most.
    assert change / rate - 3 == pytest.approx(0.5 * math.log(2) + 0.3, abs=1.5 / rate)


def test_a_moment_changes_nothing() -> None:
    found = played(Smoother(2, 0.5, 0.3), 30, (A, 3), (B, 0.3), (A, 3))
    assert [one.outcome for one in found] == [0] * len(found)
    # By itself every frame counts.
    found = played(Smoother(2, 0, 0), 30, (A, 3), (B, 0.3), (A, 3))
    assert sum(one.changed for one in found) == 3


def test_what_flickers_does_not_hold() -> None:
    smoother = Smoother(2, 0, hold_s=0.3)
    smoother.see(A, False, 0.0)
    for place in range(1, 100):
        assert smoother.see(B if place % 5 else A, False, place / 20).outcome == 0


def test_unknown_is_an_outcome_like_the_classes() -> None:
    smoother = Smoother(2, 0.5, 0.3)
    smoother.see(A, False, 0.0)
    found = [smoother.see(A, True, n / 30) for n in range(1, 60)]
    assert sum(one.changed for one in found) == 1
    assert found[-1].outcome is None
    assert found[-1].unknown_share > 0.97
    # What it is most like stays known.
    assert found[-1].probabilities == pytest.approx(A)
    back = [smoother.see(A, False, 2 + n / 30) for n in range(60)]
    assert back[-1].outcome == 0


def test_after_a_gap_the_past_is_forgotten() -> None:
    smoother = Smoother(2, 0.5, 0.3)
    smoother.see(A, False, 0.0)
    late = smoother.see(B, False, 60.0)
    assert late.probabilities == pytest.approx(B, abs=1e-6)
    assert late.outcome == 0  # it has not held yet
    assert smoother.see(B, False, 60.4).outcome == 1


def test_a_clock_that_is_set_back_costs_one_frame() -> None:
    smoother = Smoother(2, 0.5, 0.3)
    smoother.see(A, False, 1_000_000.0)
    found = [smoother.see(B, False, n / 30) for n in range(60)]
    assert found[0].probabilities == pytest.approx(A)
    assert found[-1].outcome == 1


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="3 classes, not 2"):
        Smoother(2).see(np.full(3, 1 / 3), False, 0.0)
