"""The time that a run still takes."""

from __future__ import annotations

import pytest

from mobiletl.device.run import pace as pace_module
from mobiletl.device.run.pace import Pace
from mobiletl.device.run.schedule import Schedule

SCHEDULE = Schedule(pictures=80, batch=8, epochs=2, lr=0.1, seed=0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    return now


def steps(pace: Pace, clock: list[float], count: int, seconds: float = 2.0) -> None:
    for _ in range(count):
        clock[0] += seconds
        pace.step()


def test_nothing_is_known_before_a_step_was_timed(clock: list[float]) -> None:
    pace = Pace(SCHEDULE)
    assert pace.seconds_left(1, 0) is None
    steps(pace, clock, 1)
    assert pace.seconds_left(1, 1) is None


def test_steps_that_are_left(clock: list[float]) -> None:
    pace = Pace(SCHEDULE)
    steps(pace, clock, 3)
    # 17 steps of 2 s are left; no evaluation has been timed.
    assert pace.seconds_left(1, 3) == pytest.approx(34.0)


def test_maps_for_later_epochs_are_no_steps(clock: list[float]) -> None:
    pace = Pace(SCHEDULE)
    for _ in range(3):
        clock[0] += 8.0
        pace.step(ahead_s=6.0)
    # Each of the 7 steps that are left of this epoch computes such maps, too.
    assert pace.seconds_left(1, 3) == pytest.approx(17 * 2.0 + 7 * 6.0)


def test_evaluations_count(clock: list[float]) -> None:
    pace = Pace(SCHEDULE)
    pace.scored(30.0)
    steps(pace, clock, 2)
    assert pace.seconds_left(2, 12) == pytest.approx(8 * 2.0 + 30.0)


def test_the_time_of_an_evaluation_is_no_steps(clock: list[float]) -> None:
    pace = Pace(SCHEDULE)
    steps(pace, clock, 2)
    pace.interrupted()
    clock[0] += 1000.0
    steps(pace, clock, 2)
    assert pace.seconds_left(2, 14) == pytest.approx(6 * 2.0)
