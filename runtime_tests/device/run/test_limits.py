"""Settings that make no sense for a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.manifest import Feature, Manifest
from mobiletl.device.errors import UsageError
from mobiletl.device.run.limits import check_batch, problems_of
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """It has trained statistics, and maps of 2 x 2."""
    return open_bundle(write_tiny_bundle(tmp_path, graphs=False)).manifest


def of_pixels(manifest: Manifest, resolution: int) -> Manifest:
    return replace(manifest, input=replace(manifest.input, resolution=resolution))


def test_one_value_a_channel_has_no_variance(manifest: Manifest) -> None:
    small = of_pixels(manifest, 32)
    with pytest.raises(UsageError, match=r"maps of 1 x 1; take --batch 2 or more, or"):
        check_batch(small, 1)
    check_batch(small, 2)
    check_batch(of_pixels(manifest, 64), 1)
    point = replace(manifest, feature=Feature((6, 1, 1)))
    with pytest.raises(UsageError, match="one value a channel"):
        check_batch(point, 1)
    without = tuple(entry for entry in small.state if entry.role != "statistic")
    check_batch(replace(small, state=without), 1)


def test_layout_and_decode_memory_are_checked() -> None:
    assert problems_of({"layout": "classes", "decode_memory": 20_000_000}) == []
    (problem,) = problems_of({"layout": "flat"}, flags=True)
    assert problem == "--layout is 'flat', expected auto or classes or split"
    assert problems_of({"decode_memory": 0}) == ["decode_memory is 0, expected at least 1"]
