"""Which level is taken, and which are worth showing: on levels made up for it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from mobiletl.device.run.options import VIEWS
from mobiletl.fitting.levels import FORMS, Level, Wanted, chosen, worth_it

MB = 1_000_000
ANY = Wanted(None, None, 200, 10)


def level(blocks: int, planned: int, form: str = "one-bit", batch: int = 8) -> Level:
    return Level(Path(f"{blocks}-{form}"), blocks, form, batch, planned * MB, 0.02, 0.1 * blocks)


SHALLOW, MIDDLE, DEEP = level(1, 100), level(3, 120), level(5, 140)


@pytest.mark.parametrize(
    ("memory", "found"), [(165, DEEP), (154, DEEP), (153, MIDDLE), (110, SHALLOW), (109, None)]
)
def test_the_deepest_that_fits_with_a_tenth_more_is_taken(memory: int, found: Level | None) -> None:
    assert chosen([SHALLOW, MIDDLE, DEEP], replace(ANY, memory=memory * MB)) is found


def test_depth_counts_before_pictures_of_a_step_but_two_are_too_few() -> None:
    four, two = level(5, 125, batch=4), level(5, 115, batch=2)
    assert chosen([MIDDLE, DEEP, four, two], replace(ANY, memory=140 * MB)) is four
    assert chosen([MIDDLE, two], replace(ANY, memory=140 * MB)) is MIDDLE
    assert chosen([two], replace(ANY, memory=140 * MB)) is two


@pytest.mark.parametrize(("first", "second"), [*pairwise(FORMS)])
def test_of_two_forms_that_fit_the_first_is_taken(first: str, second: str) -> None:
    wide, narrow = level(5, 140, first), level(5, 130, second)
    assert chosen([narrow, wide], replace(ANY, memory=165 * MB)) is wide
    assert chosen([narrow, wide], replace(ANY, memory=145 * MB)) is narrow


def test_time_is_a_limit_as_well() -> None:
    assert chosen([SHALLOW, MIDDLE, DEEP], replace(ANY, seconds=DEEP.run_seconds(200))) is DEEP
    assert chosen([SHALLOW, MIDDLE, DEEP], replace(ANY, seconds=MIDDLE.run_seconds(200))) is MIDDLE
    assert chosen([SHALLOW], replace(ANY, seconds=1.0)) is None


def test_a_runs_time_is_its_passes_and_steps() -> None:
    """200 pictures, 160 of them trained on: 6 views each, 15 epochs of 20 steps, 300 in all."""
    expected = (160 * VIEWS + 40) * 0.02 + 15 * 20 * 0.3
    assert MIDDLE.run_seconds(200) == pytest.approx(expected)


def test_what_another_beats_in_all_is_not_shown() -> None:
    worse = replace(MIDDLE, planned=130 * MB)
    smaller = replace(MIDDLE, planned=110 * MB, batch=4)
    shown = worth_it([SHALLOW, MIDDLE, worse, smaller, DEEP], ANY)
    assert shown == [SHALLOW, MIDDLE, smaller, DEEP]
