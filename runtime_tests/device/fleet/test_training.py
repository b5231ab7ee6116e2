"""A round on a board: absent classes stay as they were, boards sit out, the next round works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.errors import SitsOut
from mobiletl.device.fleet import evaluating, training
from mobiletl.device.fleet.asked import ALL, NOTHING, OWN, Asked
from mobiletl.device.fleet.board import Board
from mobiletl.device.fleet.evaluating import evaluate_round
from mobiletl.device.fleet.training import train_round, with_rows_back
from mobiletl.device.run.options import Options
from mobiletl.device.run.start import Start
from mobiletl.device.run.training import train
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import BIAS, MEAN, SLOT, WEIGHT, write_tiny_bundle

# Not sorted: the order of the logits is the server's.
CLASSES = ("cat", "ant", "dog", "bee")
HERE = {"ant": 10, "bee": 12}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(training, "sits_out", lambda *_: None)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    write_pictures(tmp_path / "photos", HERE)
    board = Board(tmp_path / "home", "kitchen", bundle, tmp_path / "photos", threads=1)
    board.write()
    return board


def asked(board: Board, **changed: Any) -> Asked:
    fit = open_bundle(board.bundle).manifest.fit
    one = Asked(1, fit, CLASSES, 3, 0.0, 4, 0.2, "float32", NOTHING, ALL, 0.0)
    return replace(one, **changed)


def first(board: Board, seed: int = 0) -> dict[str, Any]:
    state = open_bundle(board.bundle).initial_state(len(CLASSES), seed)
    return {name: tensor for name, tensor in state.items() if not name.startswith(SLOT)}


@pytest.mark.parametrize("softmax", [ALL, OWN])
def test_classes_that_a_board_has_not_seen_stay_as_they_were(board: Board, softmax: str) -> None:
    began = first(board)
    done = train_round(board, asked(board, softmax=softmax), began)
    assert done.pictures == 8 + 10
    assert set(done.tensors) == {WEIGHT, BIAS, MEAN}
    for row, name in enumerate(CLASSES):
        same = (done.tensors[WEIGHT][row] == began[WEIGHT][row]).all()
        assert same == (name not in HERE), name
    assert (done.tensors[MEAN] != began[MEAN]).any()


def test_it_is_an_ordinary_run_but_for_these_rows(board: Board, tmp_path: Path) -> None:
    """The same numbers as a run of all classes from the round's parameters."""
    began = first(board)
    done = train_round(board, asked(board), began)
    bundle = open_bundle(board.bundle)
    slots = {n: t for n, t in bundle.initial_state(4, 0).items() if n.startswith(SLOT)}
    start = Start({**began, **slots}, CLASSES, "a round")
    given = {"epochs": 3, "batch": 4, "lr": 0.2, "augment": False}
    options = Options(
        board.bundle, board.data, tmp_path / "run", False, given, threads=1, classes=CLASSES
    )
    outcome = train(options, start=start)
    last, info = load_state(outcome.folder.last, bundle.manifest)
    for name in HERE:
        mine, theirs = CLASSES.index(name), info.class_names.index(name)
        np.testing.assert_array_equal(done.tensors[WEIGHT][mine], last[WEIGHT][theirs])
    np.testing.assert_array_equal(done.tensors[MEAN], last[MEAN])
    # What was put back had moved.
    dog = info.class_names.index("dog")
    assert (last[WEIGHT][dog] != began[WEIGHT][CLASSES.index("dog")]).any()


def test_a_softmax_over_its_own_classes_is_a_run_of_these(board: Board, tmp_path: Path) -> None:
    began = first(board)
    done = train_round(board, asked(board, softmax=OWN), began)
    bundle = open_bundle(board.bundle)
    rows = [CLASSES.index(name) for name in sorted(HERE)]
    slots = {n: t for n, t in bundle.initial_state(2, 0).items() if n.startswith(SLOT)}
    start = Start(
        {WEIGHT: began[WEIGHT][rows], BIAS: began[BIAS][rows], MEAN: began[MEAN], **slots},
        tuple(sorted(HERE)),
        "rows",
    )
    given = {"epochs": 3, "batch": 4, "lr": 0.2, "augment": False}
    options = Options(board.bundle, board.data, tmp_path / "run", False, given, threads=1)
    last, _ = load_state(train(options, start=start).folder.last, bundle.manifest)
    np.testing.assert_array_equal(done.tensors[WEIGHT][rows], last[WEIGHT])
    alone = replace(board, data=write_pictures(tmp_path / "ants", {"ant": 5}))
    with pytest.raises(SitsOut, match="of 'ant' alone"):
        train_round(alone, asked(board, softmax=OWN), began)


def test_folders_of_other_classes_are_left_out(board: Board) -> None:
    alone = train_round(board, asked(board), first(board))
    write_pictures(board.data, {"wolf": 6})
    beside = train_round(board, asked(board), first(board))
    assert beside.pictures == alone.pictures
    np.testing.assert_array_equal(alone.tensors[WEIGHT], beside.tensors[WEIGHT])


def test_a_time_budget_ends_a_round_and_keeps_what_it_has(board: Board) -> None:
    began = first(board)
    done = train_round(board, asked(board, epochs=10_000, seconds=0.3), began)
    assert 0 < done.metrics["steps"] < 10_000
    assert done.metrics["seconds"] < 60
    assert (done.tensors[WEIGHT] != began[WEIGHT]).any()
    whole = train_round(board, asked(board), began)
    assert set(whole.metrics) == set(done.metrics)


def test_fedprox_keeps_a_board_nearer_to_the_round(board: Board) -> None:
    began = first(board)

    def moved(proximal: float) -> float:
        ended = train_round(board, asked(board, proximal=proximal), began).tensors
        return float(np.abs(ended[WEIGHT] - began[WEIGHT]).sum())

    assert moved(2.0) < 0.8 * moved(0.0)


def test_one_class_alone_takes_part(tmp_path: Path, board: Board) -> None:
    """It is told from the classes of the others."""
    write_pictures(tmp_path / "ants", {"ant": 5})
    began = first(board)
    done = train_round(replace(board, data=tmp_path / "ants"), asked(board), began)
    changed = (done.tensors[WEIGHT] != began[WEIGHT]).any(axis=1)
    assert [name for name, moved in zip(CLASSES, changed) if moved] == ["ant"]


def test_pictures_of_other_classes_alone_sit_out(tmp_path: Path, board: Board) -> None:
    write_pictures(tmp_path / "wolves", {"wolf": 5})
    with pytest.raises(SitsOut, match="no picture of the fleet's classes"):
        train_round(replace(board, data=tmp_path / "wolves"), asked(board), first(board))


def test_a_board_that_must_not_train_says_why(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def hot(board: Board, planned: int) -> str:
        told.append(planned)
        return "it is hot"

    monkeypatch.setattr(training, "sits_out", hot)
    with pytest.raises(SitsOut, match="it is hot"):
        train_round(board, asked(board), first(board))
    # Flower comes on top of the interpreter and the runtime.
    assert told[0] > training.FLOWER_BYTES + 30_000_000


def test_the_rest_of_a_round_that_was_cut_off_is_in_nobodys_way(board: Board) -> None:
    whole = train_round(board, asked(board), first(board))
    left = sorted(board.run.iterdir())
    for file in left:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    again = train_round(board, asked(board, round=2), first(board))
    np.testing.assert_array_equal(whole.tensors[WEIGHT], again.tensors[WEIGHT])


def test_pictures_go_through_the_frozen_layers_once(board: Board) -> None:
    train_round(board, asked(board), first(board))
    stores = {file: file.stat().st_size for file in board.maps.iterdir() if file.is_file()}
    assert sum(stores.values()) > 0
    train_round(board, asked(board, round=2), first(board))
    assert stores == {file: file.stat().st_size for file in stores}


def test_rows_go_back_whatever_axis_has_the_classes() -> None:
    class Entry:
        name, shape, role = "turned", (2, "K"), "parameter"

    class OneEntry:
        state = (Entry(),)

    began = {"turned": np.zeros((2, 4), np.float32)}
    ended = {"turned": np.arange(8, dtype=np.float32).reshape(2, 4)}
    manifest: Any = OneEntry()
    found = with_rows_back(manifest, began, ended, [(3, 1), (1, 2)])
    np.testing.assert_array_equal(found["turned"], [[0, 2, 0, 1], [0, 6, 0, 5]])


def test_evaluation_asks_for_all_classes(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "sits_out", lambda *_: None)
    done = train_round(board, asked(board, epochs=20), first(board))
    score = evaluate_round(board, asked(board), done.tensors)
    assert sum(score.class_seen) == 4
    assert score.accuracy > 0.7
    # A class that the board has never seen takes all answers.
    loud = {**done.tensors, BIAS: done.tensors[BIAS].copy()}
    loud[BIAS][CLASSES.index("dog")] = 100.0
    assert evaluate_round(board, asked(board), loud).accuracy == 0.0
