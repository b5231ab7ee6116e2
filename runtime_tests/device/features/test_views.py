"""Which crop an epoch sees: every view in turn, and each the same in all runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import normalise, prepare
from mobiletl.device.features.views import CENTRAL, FRESH, ONLY_CENTRAL, Views, cut_views, views
from runtime_tests.support.board.picture_folders import write_pictures

SIZE = Input(resolution=8, resize=9, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
IDENTITIES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(60)]


@pytest.mark.parametrize("count", [1, 2, 6])
def test_so_many_epochs_see_every_view_once(count: int) -> None:
    for identity in IDENTITIES:
        for first in (1, 4):
            seen = [views(count).of(identity, epoch) for epoch in range(first, first + count)]
            assert sorted(seen) == list(range(count))


def test_pictures_begin_with_different_views() -> None:
    begin = Counter(views(6).of(identity, 1) for identity in IDENTITIES)
    assert set(begin) == set(range(6))
    assert max(begin.values()) < 20


def test_evaluation_sees_the_central_crop() -> None:
    assert views(6).of(IDENTITIES[0], 0) == CENTRAL
    assert FRESH.of(IDENTITIES[0], 0) == CENTRAL
    assert [ONLY_CENTRAL.of(IDENTITIES[0], epoch) for epoch in range(4)] == [CENTRAL] * 4


def test_none_stands_for_a_fresh_crop_in_every_epoch() -> None:
    assert views(0) == FRESH
    assert [FRESH.of(IDENTITIES[0], epoch) for epoch in (1, 2, 99)] == [1, 2, 99]


def test_views_that_are_left_take_turns() -> None:
    left = Views((2, 5))
    assert {left.of(IDENTITIES[0], epoch) for epoch in (1, 2)} == {2, 5}
    assert left.of(IDENTITIES[0], 0) == 2


def view_of(frame: Frame, identity: str, view: int) -> np.ndarray:
    out = np.full((3, 8, 8), np.nan, np.float32)
    normalise(cut_views(frame, SIZE, identity, [view])[0], SIZE, out)
    return out


def test_a_view_follows_from_the_picture_alone(tmp_path: Path) -> None:
    """Neither its name nor its neighbours count: the same bytes elsewhere are the same view."""
    first, second = write_pictures(tmp_path, {"a": 2}).joinpath("a").iterdir()
    frame = Frame("one", first)
    moved = Frame("two", first.read_bytes())
    assert moved.identity() == frame.identity()
    for view in range(6):
        np.testing.assert_array_equal(
            view_of(frame, frame.identity(), view), view_of(moved, moved.identity(), view)
        )
    found = [view_of(frame, frame.identity(), view) for view in range(6)]
    assert all((one != two).any() for i, one in enumerate(found) for two in found[:i])
    other = Frame("other", second)
    draws = [view_of(frame, identity, 1) for identity in (frame.identity(), other.identity())]
    assert (draws[0] != draws[1]).any()


def test_views_that_are_cut_together_are_those_cut_alone(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path, {"a": 1}).joinpath("a").iterdir()
    frame = Frame("one", path)
    identity = frame.identity()
    for number, crop in zip((3, 0, 1, 5), cut_views(frame, SIZE, identity, [3, 0, 1, 5])):
        alone = cut_views(frame, SIZE, identity, [number])[0]
        assert crop.tobytes() == alone.tobytes()


def test_what_later_epochs_see() -> None:
    turns = views(4)
    for identity in IDENTITIES[:8]:
        seen = [turns.of(identity, epoch) for epoch in range(1, 8)]
        assert turns.later(identity, 1, 7) == seen[1:4]
        # Nothing is seen in epochs that do not come.
        assert turns.later(identity, 1, 1) == []
        assert turns.later(identity, 1, 2) == seen[1:2]
    assert ONLY_CENTRAL.later(IDENTITIES[0], 1, 9) == []
    assert FRESH.later(IDENTITIES[0], 1, 9) == []


@pytest.mark.parametrize("side", [8, 17, 20, 30, 36, 40, 70, 72, 90, 150])
def test_the_central_view_is_the_same_beside_others(tmp_path: Path, side: int) -> None:
    """Whatever sizes a JPEG's decoder may halve it to."""
    pixels = np.random.default_rng(side).integers(0, 256, (side + 3, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    frame = Frame("one", tmp_path / "a.jpg")
    identity = frame.identity()
    alone = cut_views(frame, SIZE, identity, [CENTRAL])[0]
    assert cut_views(frame, SIZE, identity, [2, CENTRAL])[1].tobytes() == alone.tobytes()


def test_view_0_is_what_predictions_are_made_of(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path, {"a": 1}).joinpath("a").iterdir()
    frame = Frame("one", path)
    expected = np.empty((3, 8, 8), np.float32)
    prepare(frame, SIZE, expected)
    np.testing.assert_array_equal(view_of(frame, frame.identity(), CENTRAL), expected)
