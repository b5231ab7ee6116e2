"""Batches and rates as pure functions."""

from __future__ import annotations

import math

import pytest

from mobiletl.device.run.options import default_epochs
from mobiletl.device.run.schedule import Schedule


@pytest.mark.parametrize(
    ("pictures", "batch", "sizes"),
    [
        (16, 8, [8, 8]),
        (18, 8, [8, 8, 2]),
        (17, 8, [8, 8]),  # one picture left over makes no step
        (5, 8, [5]),
        (2, 8, [2]),
        (3, 1, [1, 1, 1]),  # batches of one are what was asked for
    ],
)
def test_batches(pictures: int, batch: int, sizes: list[int]) -> None:
    schedule = Schedule(pictures, batch, 3, 0.1, 0)
    rows = schedule.rows(1)
    assert [len(each) for each in rows] == sizes
    assert schedule.steps_per_epoch == len(sizes)
    assert schedule.steps == 3 * len(sizes)
    used = [row for each in rows for row in each]
    assert len(set(used)) == len(used)
    assert set(used) <= set(range(pictures))


def test_order_follows_seed_and_epoch() -> None:
    schedule = Schedule(20, 8, 3, 0.1, 7)
    assert schedule.rows(1) == schedule.rows(1)
    assert schedule.rows(1) != schedule.rows(2)
    assert schedule.rows(1) != Schedule(20, 8, 3, 0.1, 8).rows(1)


def test_the_picture_left_over_changes() -> None:
    schedule = Schedule(9, 8, 20, 0.1, 0)
    left = {
        next(iter(set(range(9)) - {row for each in schedule.rows(epoch) for row in each}))
        for epoch in range(1, 21)
    }
    assert len(left) > 3


def test_rate_rises_along_a_line_and_falls_along_half_a_cosine() -> None:
    schedule = Schedule(40, 8, 8, 0.4, 0)
    assert schedule.steps == 40
    rates = [schedule.rate(step) for step in range(40)]
    assert rates[:5] == [0.4 / 4, 0.4 * 2 / 4, 0.4 * 3 / 4, 0.4, 0.4]
    assert rates[4:] == [0.4 * 0.5 * (1 + math.cos(math.pi * step / 36)) for step in range(36)]
    assert math.isclose(schedule.rate(22), 0.2)
    assert math.isclose(schedule.rate(40), 0.0, abs_tol=1e-12)
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(("epochs", "rise"), [(1, 0), (4, 0), (5, 1), (9, 1), (10, 2)])
def test_a_tenth_of_the_steps_rises(epochs: int, rise: int) -> None:
    """Two steps an epoch; a run of less than ten steps begins with its full rate."""
    schedule = Schedule(16, 8, epochs, 0.4, 0)
    assert schedule.rate(rise) == 0.4
    assert [schedule.rate(step) for step in range(rise)] == [
        0.4 * (step + 1) / rise for step in range(rise)
    ]


@pytest.mark.parametrize(
    ("steps", "epochs"), [(0, 300), (1, 300), (7, 43), (29, 11), (30, 10), (31, 10), (1000, 10)]
)
def test_a_run_that_is_told_nothing_has_10_epochs_and_300_steps_at_least(
    steps: int, epochs: int
) -> None:
    assert default_epochs(steps) == epochs
