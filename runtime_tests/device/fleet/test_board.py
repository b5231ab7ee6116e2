"""What a board keeps between rounds: whole, its own, and not missed when it is damaged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.errors import UsageError
from mobiletl.device.fleet.board import HOME_VARIABLE, LEFT, Board, board_here, read_board

FIT = "a" * 64


@pytest.fixture
def board(tmp_path: Path) -> Board:
    one = Board(tmp_path / "home", "küche", tmp_path / "bundle", tmp_path / "photos", threads=2)
    one.write()
    return one


def test_it_is_read_as_it_was_written(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_board(board.home) == board
    monkeypatch.setenv(HOME_VARIABLE, str(board.home))
    assert board_here() == board


@pytest.mark.parametrize("content", [b"", b"{}", b'{"name": "a\\nb"}', b"\xff"])
def test_a_damaged_board_is_one_line(board: Board, content: bytes) -> None:
    (board.home / "board.json").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_board(board.home)
    assert "\n" not in str(caught.value)


def test_a_process_without_a_board_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    with pytest.raises(UsageError, match="fleet join"):
        board_here()


def test_tensors_are_kept_for_the_same_network_alone(board: Board) -> None:
    tensors = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}
    board.keep(LEFT, tensors, FIT)
    np.testing.assert_array_equal(board.kept(LEFT, FIT)["kernel"], tensors["kernel"])
    assert board.kept(LEFT, "b" * 64) == {}
    board.keep(LEFT, {}, FIT)
    assert not (board.home / LEFT).exists()
    assert board.kept(LEFT, FIT) == {}


def test_a_damaged_file_is_nothing_and_said(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    board.keep(LEFT, {"kernel": np.zeros(9, np.float32)}, FIT)
    path = board.home / LEFT
    path.write_bytes(path.read_bytes()[:20])
    with caplog.at_level(logging.WARNING):
        assert board.kept(LEFT, FIT) == {}
    assert "goes on without it" in caplog.text
