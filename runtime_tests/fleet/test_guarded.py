"""Flower's own strategies behind the check: with its messages, without its network."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import ConfigRecord, Error, Message, MetricRecord, RecordDict

from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.device.fleet.asked import asked_of
from mobiletl.device.fleet.client_app import (
    ARRAYS,
    BOARD,
    CONFIG,
    METRICS,
    PICTURES,
    SITS_OUT,
    contents_of,
    record_of,
)
from mobiletl.device.fleet.coding import upwards
from mobiletl.device.fleet.wire import read_down
from mobiletl.fleet.folder import FleetFolder
from mobiletl.fleet.guarded import Guarded
from mobiletl.fleet.plan import Plan
from mobiletl.fleet.server_app import serve_rounds
from mobiletl.fleet.strategies import NAMES
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, WEIGHT
from runtime_tests.support.fleet_rounds import (
    BOARDS,
    CLASSES,
    SHAPES,
    AnsweringGrid,
    guarded_strategy,
    tensors,
    tiny_plan,
)


class Boards(AnsweringGrid):
    """Boards in this process: board n answers the round's parameters plus `steps[n]`."""

    def __init__(self, plan: Plan, steps: dict[int, float]) -> None:
        super().__init__(steps)
        self.plan, self.steps = plan, steps
        self.manifest = read_manifest(plan.bundle)
        self.rounds: list[int] = []
        self.spoil: dict[int, Any] = {}
        self.left: dict[int, Any] = {}
        self.accuracies: dict[int, float] = {}
        """What boards hold out, by the round that begins with it."""

    def answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        asked = asked_of(dict(message.content.config_records[CONFIG]), self.manifest)
        self.rounds.append(asked.round)
        if isinstance(self.spoil.get(node), Error):
            return Message(self.spoil[node], reply_to=message)
        arrays = read_down(contents_of(message.content.array_records[ARRAYS]), SHAPES)
        began = {name: array.astype(np.float32) for name, array in arrays.items()}
        ended = {name: tensor + self.steps[node] for name, tensor in began.items()}
        sent, self.left[node] = upwards(began, ended, self.left.get(node, {}), asked.encoding)
        if node in self.spoil:
            sent = self.spoil[node](sent)
        content = {
            ARRAYS: record_of(sent),
            METRICS: MetricRecord({PICTURES: 10 * node, "loss": 0.5, **self.figures(asked.round)}),
            BOARD: ConfigRecord({"name": f"board {node}"}),
        }
        return Message(RecordDict(content), reply_to=message)

    def figures(self, number: int) -> dict[str, float]:
        if number not in self.accuracies:
            return {}
        return {"accuracy-before": self.accuracies[number]}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return tiny_plan(tmp_path)


def steps(value: float = 0.1) -> dict[int, float]:
    """Of boards 1 to BOARDS; board n has 10 n pictures."""
    return dict.fromkeys(range(1, BOARDS + 1), value)


def one_round(plan: Plan, grid: Boards) -> tuple[dict[str, Any], Guarded]:
    guarded = guarded_strategy(plan)
    result = guarded.start(grid, record_of(tensors(1.0)), num_rounds=1)
    return {name: array.numpy() for name, array in result.arrays.items()}, guarded


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["float32", "float16", "int8"])
def test_every_strategy_goes_where_the_boards_go(plan: Plan, name: str, encoding: str) -> None:
    found, guarded = one_round(
        replace(plan, strategy=name, encoding=encoding), Boards(plan, steps())
    )
    for key, tensor in found.items():
        assert tensor.dtype == np.float32
        assert ((tensor > 1.005) & (tensor < 1.11)).all(), key
    assert len(guarded.record.taken) == BOARDS


def test_the_mean_is_weighted_by_pictures(plan: Plan) -> None:
    found, _ = one_round(plan, Boards(plan, {node: 0.1 * node for node in steps()}))
    expected = 1 + sum(10 * n * 0.1 * n for n in steps()) / sum(10 * n for n in steps())
    np.testing.assert_allclose(found[WEIGHT], expected, rtol=1e-6)


BROKEN = {
    "nan": lambda sent: {**sent, BIAS: np.array([np.nan, 0], np.float32)},
    "shape": lambda sent: {**sent, WEIGHT: np.zeros((4, 6), np.float32)},
    "names": lambda sent: {**sent, "backdoor": np.zeros(2, np.float32)},
    "hundredfold": lambda sent: {name: 1 + 100 * (array - 1) for name, array in sent.items()},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_board_is_refused_and_named(
    plan: Plan, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    plan = replace(plan, strategy=name)
    grid = Boards(plan, steps())
    grid.spoil = {5: BROKEN[kind]}
    sound = Boards(plan, dict.fromkeys(range(1, BOARDS), 0.1))
    with caplog.at_level(logging.WARNING):
        found, guarded = one_round(plan, grid)
    expected, _ = one_round(replace(plan, boards=BOARDS - 1), sound)
    for key, tensor in found.items():
        np.testing.assert_allclose(tensor, expected[key], rtol=1e-5)
    assert [one.board for one in guarded.record.refused] == ["board 5"]
    assert "board 5 (node 5) is refused" in caplog.text
    assert guarded.record.document()["refused"][0]["node"] == "5"


@pytest.mark.parametrize("name", ["median", "krum"])
def test_what_passes_the_check_is_outvoted(plan: Plan, name: str) -> None:
    """Nine times the others' step is below the check's limit; the mean would follow it."""
    grid = Boards(plan, {**steps(), 5: 0.9})
    found, guarded = one_round(replace(plan, strategy=name), grid)
    assert len(guarded.record.taken) == BOARDS
    np.testing.assert_allclose(found[WEIGHT], 1.1, rtol=1e-3)
    mean, _ = one_round(plan, Boards(plan, {**steps(), 5: 0.9}))
    assert mean[WEIGHT].min() > 1.3


def test_a_round_of_broken_boards_changes_nothing(plan: Plan) -> None:
    grid = Boards(plan, steps())
    grid.spoil = dict.fromkeys(steps(), BROKEN["nan"])
    guarded = guarded_strategy(plan)
    result = guarded.start(grid, record_of(tensors(1.0)), num_rounds=1)
    assert len(result.arrays) == 0
    assert len(guarded.record.refused) == BOARDS


def test_a_round_that_most_boards_have_not_answered_changes_nothing(plan: Plan) -> None:
    grid = Boards(plan, steps())
    grid.spoil = {node: Error(5, "node unavailable") for node in (1, 2, 3)}
    guarded = guarded_strategy(plan)
    result = guarded.start(grid, record_of(tensors(1.0)), num_rounds=1)
    assert len(result.arrays) == 0
    assert guarded.record.dropped == "2 of 5 boards have sent what fits"
    # Boards that sit out are no reason to wait for better rounds.
    grid.spoil = {node: Error(SITS_OUT, "it is hot") for node in (1, 2, 3)}
    found, guarded = one_round(plan, grid)
    assert guarded.record.dropped == ""
    assert found[WEIGHT].min() > 1.0


def test_boards_that_sit_out_or_are_lost_are_told_apart(plan: Plan) -> None:
    grid = Boards(plan, steps())
    grid.spoil = {1: Error(SITS_OUT, "kitchen: it is hot\x1b[2J"), 2: Error(5, "node unavailable")}
    _, guarded = one_round(plan, grid)
    assert guarded.record.out == ["kitchen: it is hot\\x1b[2J"]
    assert guarded.record.lost == ["node 2: node unavailable"]
    assert len(guarded.record.taken) == BOARDS - 2


@pytest.mark.parametrize(
    ("personal", "home"), [("norms", {MEAN}), ("head", {WEIGHT, BIAS}), ("nothing", set())]
)
@pytest.mark.parametrize("name", ["fedavg", "fedadam", "median"])
def test_what_stays_at_home_is_the_servers_own(
    plan: Plan, personal: str, home: set[str], name: str
) -> None:
    plan = replace(plan, personal=personal, strategy=name)
    grid = Boards(plan, steps())
    grid.spoil = {
        node: lambda sent: {key: a for key, a in sent.items() if key not in home}
        for node in steps()
    }
    found, guarded = one_round(plan, grid)
    assert not guarded.record.refused
    for key, tensor in found.items():
        assert (tensor == 1.0).all() == (key in home), key


def test_statistics_are_averaged_where_the_server_has_adam(plan: Plan) -> None:
    found, _ = one_round(replace(plan, strategy="fedadam"), Boards(plan, steps(-0.5)))
    np.testing.assert_allclose(found[MEAN], 0.5, rtol=1e-6)
    assert found[WEIGHT].min() > 0.9


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_a_server_that_was_killed_goes_on_to_the_same_numbers(
    plan: Plan, name: str, tmp_path: Path
) -> None:
    """Six rounds at once, and six in three servers: the same state, and rounds count on."""
    plan = replace(plan, strategy=name, rounds=6)
    whole, cut = FleetFolder(tmp_path / "whole"), FleetFolder(tmp_path / "cut")
    manifest = read_manifest(plan.bundle)
    for folder in (whole, cut):
        plan.write(folder.path)
        folder.save(manifest, CLASSES, tensors(1.0), 0)
    serve_rounds(Boards(plan, steps()), whole)
    for rounds in (2, 5, 6):
        replace(plan, rounds=rounds).write(cut.path)
        grid = Boards(plan, steps())
        serve_rounds(grid, cut)
        assert max(grid.rounds) == rounds
    expected, found = whole.load(manifest)[0], cut.load(manifest)[0]
    for key, tensor in expected.items():
        np.testing.assert_allclose(found[key], tensor, rtol=1e-6)
    assert [line["round"] for line in cut.read_rounds()] == [1, 2, 3, 4, 5, 6]


def test_bytes_and_boards_of_a_round_are_in_its_line(plan: Plan, tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path / "fleet")
    plan.write(folder.path)
    folder.save(read_manifest(plan.bundle), CLASSES, tensors(1.0), 0)
    serve_rounds(Boards(plan, steps()), folder)
    (line,) = folder.read_rounds()
    assert (line["round"], line["asked"], len(line["boards"])) == (1, BOARDS, BOARDS)
    assert {board["board"] for board in line["boards"]} == {f"board {node}" for node in steps()}


def test_the_best_state_is_kept_across_servers(plan: Plan, tmp_path: Path) -> None:
    """The result of round 2 is best; the server is started anew after round 3."""
    folder = FleetFolder(tmp_path / "fleet")
    manifest = read_manifest(plan.bundle)
    folder.path.mkdir()
    folder.save(manifest, CLASSES, tensors(1.0), 0)
    states = {}
    for rounds in (1, 2, 3, 5):
        replace(plan, rounds=rounds).write(folder.path)
        grid = Boards(plan, steps())
        grid.accuracies = {1: 0.1, 2: 0.5, 3: 0.8, 4: 0.7, 5: 0.75}
        serve_rounds(grid, folder)
        states[rounds] = folder.state.read_bytes()
    found = folder.best_round()
    assert found is not None
    assert found == (2, pytest.approx(0.8))
    assert folder.best.read_bytes() == states[2]
    assert folder.state.read_bytes() == states[5]
