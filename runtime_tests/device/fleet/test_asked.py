"""What a server asks: checked before anything is done for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.asked import (
    HEAD,
    NORMS,
    NOTHING,
    Asked,
    asked_of,
    personal_names,
    round_shapes,
)
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT, write_tiny_bundle


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return read_manifest(write_tiny_bundle(tmp_path / "bundle", graphs=False))


def asked(manifest: Manifest, **changed: Any) -> Asked:
    values: dict[str, Any] = {
        "round": 3,
        "fit": manifest.fit,
        "class_names": ("ant", "bee"),
        "epochs": 2,
        "seconds": 0.0,
        "batch": 8,
        "lr": 0.1,
        "encoding": "int8",
        "personal": NOTHING,
        "softmax": "own",
        "proximal": 0.5,
    }
    return Asked(**{**values, **changed})


def test_what_is_sent_is_what_is_read(manifest: Manifest) -> None:
    one = asked(manifest)
    assert asked_of({**one.document(), "server-round": 1}, manifest) == one


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"protocol": 1}, "version 1"),
        ({"epochs": 0}, "epochs"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": "fast"}, "lr"),
        ({"encoding": "gzip"}, "encoding"),
        ({"personal": "all"}, "personal"),
        ({"softmax": "none"}, "softmax"),
        ({"classes": ["ant"]}, "classes"),
        ({"classes": ["ant", "ant"]}, "twice"),
        ({"fit": "0" * 64}, "another bundle"),
    ],
)
def test_nonsense_is_one_line(manifest: Manifest, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRound) as caught:
        asked_of({**asked(manifest).document(), **changed}, manifest)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_slots_are_no_part_of_a_round(manifest: Manifest) -> None:
    assert round_shapes(manifest, 5) == {WEIGHT: (5, 6), BIAS: (5,), MEAN: (6,)}


def test_what_stays_at_home(manifest: Manifest) -> None:
    assert personal_names(manifest, NOTHING) == frozenset()
    assert personal_names(manifest, HEAD) == {WEIGHT, BIAS}
    assert personal_names(manifest, NORMS) == {MEAN}
