"""Batches and rates as pure functions."""

from __future__ import annotations

import math

import pytest

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


def test_rate_is_half_a_cosine_to_zero() -> None:
    schedule = Schedule(16, 8, 4, 0.4, 0)
    assert schedule.rate(0) == 0.4
    assert math.isclose(schedule.rate(4), 0.2)
    assert math.isclose(schedule.rate(8), 0.0, abs_tol=1e-12)
    rates = [schedule.rate(step) for step in range(9)]
    assert rates == sorted(rates, reverse=True)
