"""Which replies a server takes: NaN, wrong shapes and huge updates never reach a mean."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.asked import NORMS, NOTHING, Asked
from mobiletl.device.fleet.coding import FLOAT32, INT8, SCALES, upwards
from mobiletl.fleet.checking import Update, decoded, figures_of, judged
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT, write_tiny_bundle

CLASSES = ("ant", "bee")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return read_manifest(write_tiny_bundle(tmp_path / "bundle", graphs=False))


def asked(manifest: Manifest, encoding: str, personal: str = NOTHING) -> Asked:
    return Asked(1, manifest.fit, CLASSES, 1, 0.0, 8, 0.1, encoding, personal, "all", 0.0)


def tensors(value: float) -> dict[str, Any]:
    shapes = {WEIGHT: (2, 6), BIAS: (2,), MEAN: (6,)}
    return {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}


def contents(arrays: dict[str, Any]) -> dict[str, bytes]:
    found = {}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.save(stream, array)
        found[name] = stream.getvalue()
    return found


@pytest.mark.parametrize("encoding", [FLOAT32, INT8])
def test_what_a_board_sends_is_decoded(manifest: Manifest, encoding: str) -> None:
    sent, _ = upwards(tensors(1.0), tensors(1.5), {}, encoding)
    found = decoded(contents(sent), tensors(1.0), asked(manifest, encoding), manifest)
    for name, tensor in tensors(1.5).items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-6)


def test_nan_is_refused(manifest: Manifest) -> None:
    broken = {**tensors(1.0), BIAS: np.array([0, np.nan], np.float32)}
    with pytest.raises(BadRound, match="not finite"):
        decoded(contents(broken), tensors(1.0), asked(manifest, FLOAT32), manifest)


def test_other_shapes_are_refused(manifest: Manifest) -> None:
    other = {**tensors(1.0), WEIGHT: np.zeros((3, 6), np.float32)}
    with pytest.raises(BadRound, match=r"expected float32 \[2, 6\]"):
        decoded(contents(other), tensors(1.0), asked(manifest, FLOAT32), manifest)


def test_scales_that_leave_the_range_are_refused(manifest: Manifest) -> None:
    sent, _ = upwards(tensors(1.0), tensors(1.5), {}, INT8)
    sent[WEIGHT + SCALES] = np.full(1, 3e38, np.float32)
    with pytest.raises(BadRound, match="not finite any more"):
        decoded(contents(sent), tensors(1.0), asked(manifest, INT8), manifest)


def test_what_stays_at_home_must_not_come(manifest: Manifest) -> None:
    home = asked(manifest, FLOAT32, NORMS)
    arrays = tensors(2.0)
    with pytest.raises(BadRound, match=f"{MEAN} is unknown"):
        decoded(contents(arrays), tensors(1.0), home, manifest)
    del arrays[MEAN]
    assert set(decoded(contents(arrays), tensors(1.0), home, manifest)) == {WEIGHT, BIAS}


@pytest.mark.parametrize("count", [0, -1, 10**7, 2.5, float("nan"), None])
def test_a_number_of_pictures_that_cannot_be_is_refused(count: Any) -> None:
    with pytest.raises(BadRound, match="pictures"):
        figures_of({"num-examples": count})


def test_figures_are_finite_numbers() -> None:
    assert figures_of({"num-examples": 3, "loss": 0.5}) == (3, {"loss": 0.5})
    with pytest.raises(BadRound, match="not finite"):
        figures_of({"num-examples": 3, "loss": float("inf")})


def update(node: int, value: float) -> Update:
    return Update(node, f"board {node}", tensors(value), 10, {})


def test_an_update_a_hundred_times_too_large_is_refused_and_named() -> None:
    updates = [update(node, 1.0 + 0.1 * node) for node in (1, 2, 3)]
    taken, refused, median = judged([*updates, update(4, 1.0 + 100 * 0.2)], tensors(1.0), None)
    assert [one.node for one in taken] == [1, 2, 3]
    assert [(one.node, one.board) for one in refused] == [(4, "board 4")]
    # The median of four is between the second and the third.
    assert refused[0].why == "its update is 80 times as large as the boards' median"
    assert median == pytest.approx(0.25 * np.sqrt(20), rel=1e-5)


def test_two_boards_are_compared_with_earlier_rounds() -> None:
    pair = [update(1, 1.1), update(2, 11.0)]
    assert judged(pair, tensors(1.0), None)[1] == []
    taken, refused, usual = judged(pair, tensors(1.0), 0.1 * np.sqrt(20))
    assert [one.node for one in taken] == [1]
    assert [one.node for one in refused] == [2]
    assert usual == 0.1 * np.sqrt(20)
