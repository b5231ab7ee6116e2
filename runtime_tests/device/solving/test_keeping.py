"""Training is kept where held-out pictures are clearly in favour of it."""

from __future__ import annotations

import numpy as np
import pytest

from mobiletl.device.solving.keeping import Mixed, standard_errors


def test_a_state_between_two() -> None:
    began = {"w": np.float32([0.0, 2.0])}
    trained = {"w": np.float32([4.0, 4.0]), "slot": np.float32([9.0])}

    def mixed(share: float) -> dict[str, list[float]]:
        copies = [{name: one.copy() for name, one in state.items()} for state in (began, trained)]
        return {name: one.tolist() for name, one in Mixed(*copies, share).items()}

    assert mixed(0.0) == {"w": [0.0, 2.0], "slot": [9.0]}
    assert mixed(0.5) == {"w": [2.0, 3.0], "slot": [9.0]}
    assert mixed(1.0) == {"w": [4.0, 4.0], "slot": [9.0]}


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([1.0] * 9, 3.0),
        ([1.0] * 4, 2.0),
        ([1.0, -1.0], 0.0),
        ([0.0, 0.0], 0.0),
        ([], 0.0),
        ([-2.0], -1.0),
        ([1.0, np.nan, 1.0, 1.0, 1.0], 2.0),
    ],
)
def test_standard_errors_of_gains(gains: list[float], expected: float) -> None:
    after = np.arange(len(gains), dtype=np.float64)
    assert standard_errors(after + gains, after) == pytest.approx(expected)


def test_four_pictures_that_differ_are_not_enough() -> None:
    gains = np.array([0.5, 1.0, 1.0, 2.0])
    assert standard_errors(gains, np.zeros(4)) < 2.0
