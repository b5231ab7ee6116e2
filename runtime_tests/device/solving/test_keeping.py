"""Training is kept where held-out pictures are clearly in favour of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mobiletl.device.solving import keeping
from mobiletl.device.solving.keeping import Examples, Mixed, solve, standard_errors


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


class Looks:
    """A session whose embedding is its map, and the source of these maps; it counts them."""

    def __init__(self, pictures: int) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.arange(pictures, dtype=np.int64) % 3
        self.maps = rng.normal(size=(pictures, 4)).astype(np.float32)
        self.maps[:, :3] += np.eye(3, dtype=np.float32)[self.labels]
        self.seen = 0

    def fill(self, rows: list[int], _: int, out: Any) -> list[int]:
        out[: len(rows)] = self.maps[rows]
        return list(rows)

    def embed(self, maps: Any) -> Any:
        self.seen += len(maps)
        return SimpleNamespace(embeddings=maps)


def looked_at(pictures: int) -> tuple[keeping.Solution, int]:
    looks = Looks(pictures)
    part = SimpleNamespace(source=looks, labels=looks.labels)
    rows, buffer = range(pictures), np.empty((8, 4), np.float32)
    parts: Any = (4, 3, part, part, rows, 1, buffer, 0)
    return solve(Examples(cast(Any, looks), *parts), lambda *_: None), looks.seen


@pytest.mark.parametrize(("pictures", "passes"), [(200, 200), (300, 300), (600, 256 + 600)])
def test_no_picture_is_embedded_twice_where_all_fit(
    pictures: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, seen = looked_at(pictures)
    assert seen == passes
    monkeypatch.setattr(keeping, "MOST_AT_ONCE", 0)
    other, again = looked_at(pictures)
    assert again == (200 if pictures == 200 else 256 + pictures)
    assert (found.penalty, found.scale) == (other.penalty, other.scale)
    np.testing.assert_array_equal(found.head.weight, other.head.weight)
    np.testing.assert_array_equal(found.head.bias, other.head.bias)
