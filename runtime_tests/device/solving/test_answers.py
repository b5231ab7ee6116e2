"""What is expected of a classifier's answers before a picture is seen follows from its origin."""

from __future__ import annotations

import numpy as np
import pytest

from mobiletl.device.heads.calibration import SOLVED_PRIOR, TRAINED_PRIOR
from mobiletl.device.heads.unknown import SOLVED_WEIGHT, TRAINED_WEIGHT, Familiar
from mobiletl.device.solving.answers import HeldOut, fit_answers

NOTHING = Familiar(np.zeros(3, np.float32), np.zeros((0, 3), np.float32))


@pytest.mark.parametrize(
    ("solved", "centre", "weight"),
    [
        (True, SOLVED_PRIOR.centre, SOLVED_WEIGHT),
        (False, TRAINED_PRIOR.centre, TRAINED_WEIGHT),
    ],
)
def test_pictures_that_say_nothing_leave_what_was_expected(
    solved: bool, centre: float, weight: float
) -> None:
    held_out = HeldOut(np.zeros((6, 2)), np.full(6, 0.25), np.arange(6) % 2)
    answers = fit_answers(held_out, NOTHING, solved)
    assert answers.temperature == pytest.approx(centre, rel=1e-3)
    assert answers.unknown is not None
    assert answers.unknown.weight == weight
    # All scores are alike, so the threshold is theirs: the largest logit, 0, less what is strange.
    assert answers.unknown.threshold == pytest.approx(-0.25 * weight)
