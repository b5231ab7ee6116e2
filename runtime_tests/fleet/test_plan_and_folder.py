"""What a server keeps: enough to go on with after it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import previous_generation
from mobiletl.device.errors import BadState
from mobiletl.device.prediction.predictor import open_predictor
from mobiletl.fleet.folder import FAILED, FleetFolder
from mobiletl.fleet.plan import FILE, Plan, read_plan
from mobiletl.fleet.strategies import NAMES, TABLE, row_of
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

CLASSES = ("ant", "bee")


def plan(bundle: Path, **changed: Any) -> Plan:
    values: dict[str, Any] = {
        "bundle": bundle,
        "class_names": CLASSES,
        "rounds": 5,
        "boards": 4,
        "share": 1.0,
        "round_seconds": 60.0,
        "strategy": "fedprox",
        "epochs": 1,
        "seconds": 0.0,
        "batch": 8,
        "lr": 0.1,
        "encoding": "float32",
        "personal": "nothing",
        "softmax": "all",
        "proximal": 0.25,
        "server_lr": 0.01,
        "broken": 1,
        "evaluate": False,
    }
    return Plan(**{**values, **changed})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle")


def test_a_plan_is_read_as_it_was_written(tmp_path: Path, bundle: Path) -> None:
    one = plan(bundle)
    one.write(tmp_path / "fleet")
    assert read_plan(tmp_path / "fleet") == one


@pytest.mark.parametrize("content", [b"", b"{}", b'{"rounds": 0}', b"\xff"])
def test_a_damaged_plan_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(BadState) as caught:
        read_plan(tmp_path)
    assert "\n" not in str(caught.value)


def test_more_rounds_are_the_same_fleet_and_other_classes_are_not(bundle: Path) -> None:
    one = plan(bundle)
    assert one.differences(replace(one, rounds=50, boards=3)) == []
    assert one.differences(replace(one, lr=0.5)) == ["lr was 0.1 and is 0.5"]
    assert len(one.differences(replace(one, class_names=("ant", "cat")))) == 1


def test_only_fedprox_pulls_boards_back(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert plan(bundle).asked(manifest, 2).proximal == 0.25
    assert plan(bundle, strategy="fedavg").asked(manifest, 2).proximal == 0.0


def test_the_rate_falls_to_a_tenth_and_stays_there(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    rates = [plan(bundle).asked(manifest, number).lr for number in (1, 3, 5, 9)]
    assert rates == pytest.approx([0.1, 0.055, 0.01, 0.01])


def test_a_state_is_one_that_predict_opens(tmp_path: Path, bundle: Path) -> None:
    opened = open_bundle(bundle)
    slots = {entry.name for entry in opened.manifest.state if entry.role == "slot"}
    state = opened.initial_state(2, 0)
    lasting = {name: tensor for name, tensor in state.items() if name not in slots}
    folder = FleetFolder(tmp_path / "fleet")
    folder.save(opened.manifest, CLASSES, lasting, 7)
    found, info = folder.load(opened.manifest)
    assert (info.epoch, info.class_names) == (7, CLASSES)
    assert set(found) == set(lasting)
    with open_predictor(opened, folder.state) as predictor:
        answer = predictor.predict(np.zeros((20, 20, 3), np.uint8))
    assert set(answer.labels) == set(CLASSES)


def test_a_damaged_state_gives_way_to_the_round_before(tmp_path: Path, bundle: Path) -> None:
    opened = open_bundle(bundle)
    slots = {entry.name for entry in opened.manifest.state if entry.role == "slot"}
    state = {n: t for n, t in opened.initial_state(2, 0).items() if n not in slots}
    folder = FleetFolder(tmp_path / "fleet")
    for done in (1, 2):
        folder.save(opened.manifest, CLASSES, state, done)
    folder.state.write_bytes(folder.state.read_bytes()[:100])
    assert previous_generation(folder.state).is_file()
    assert folder.load(opened.manifest)[1].epoch == 1


def test_what_a_strategy_remembers_counts_with_its_round_alone(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.save_strategy({"m_t/kernel": np.ones(3)}, 4)
    np.testing.assert_array_equal(folder.load_strategy(4)["m_t/kernel"], np.ones(3))
    assert folder.load_strategy(5) == {}
    folder.strategy.write_bytes(b"torn")
    assert folder.load_strategy(4) == {}


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.add_round({"round": 1, "boards": []})
    with folder.rounds.open("ab") as file:
        file.write(b'{"round": 2, "boa')
    folder.add_round({"round": 2, "boards": [], "asked": 3})
    folder.add_round({"round": 1, "boards": [], "asked": 9})
    found = folder.read_rounds()
    assert [(line["round"], line.get("asked")) for line in found] == [(1, 9), (2, 3)]


def test_how_it_ended_is_kept(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    assert folder.ended() is None
    folder.end(FAILED, "no boards")
    assert folder.ended() == (FAILED, "no boards")


def test_names_of_strategies_are_unique() -> None:
    assert len(set(NAMES)) == len(TABLE)
    assert row_of("krum").kind == "MultiKrum"
