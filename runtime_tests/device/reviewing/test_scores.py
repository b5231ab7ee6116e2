"""Intervals, confusion, and the worst answers, against what can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mobiletl.device.heads.softmax import softmax
from mobiletl.device.reviewing.scores import Z95, Share, confusion, shares, wilson, worst


@pytest.mark.parametrize(("right", "total"), [(0, 5), (5, 5), (1, 5), (7, 20), (999, 1000)])
def test_the_ends_of_an_interval_are_shares_that_just_allow_what_was_counted(
    right: int, total: int
) -> None:
    # Wilson's definition: |share - p| is Z95 standard errors of p itself.
    for end in wilson(right, total):
        if end not in (0.0, 1.0):
            error = math.sqrt(end * (1 - end) / total)
            assert abs(right / total - end) == pytest.approx(Z95 * error, rel=1e-9)
    low, high = wilson(right, total)
    assert 0 <= low <= right / total <= high <= 1


def test_known_intervals() -> None:
    assert wilson(5, 5) == (pytest.approx(0.5655, abs=1e-4), 1.0)
    assert wilson(15, 24) == (pytest.approx(0.4271, abs=1e-4), pytest.approx(0.7884, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)
    assert Share(0, 0).share is None


def test_confusion_counts_rows_by_label() -> None:
    labels, said = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    counts = confusion(labels, said, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    all_of_them, of_class = shares(counts)
    assert (all_of_them.right, all_of_them.total) == (4, 6)
    assert [(one.right, one.total) for one in of_class] == [(1, 2), (1, 1), (2, 3), (0, 0)]


def test_the_worst_are_wrong_and_least_sure_of_their_label() -> None:
    shown = softmax(np.array([[2, 0, 0], [0, 3, 0], [0, 1, 0], [0, 0, 5]], np.float32))
    np.testing.assert_allclose(shown.sum(axis=1), 1, rtol=1e-6)
    assert worst(shown, np.array([0, 0, 0, 1])) == [3, 1, 2]
