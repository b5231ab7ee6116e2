"""The table of boards: complete, consistent, as documented, and as pyproject.toml pins it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from mobiletl.device.diagnosis.boards import (
    BOARDS,
    LAST_ONNXRUNTIME_FOR_GLIBC_2_27,
    OLDEST_ONNXRUNTIME,
    WHEELS,
    Board,
    board_named,
)

REPOSITORY = Path(__file__).parents[3]
NAMES = [board.name for board in BOARDS]


def admitted(package: str, version: str, python: str, machine: str = "aarch64") -> bool:
    """Whether the base install may take this version there."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = text[text.index("\ndependencies = [") : text.index("[project.optional-dependencies]")]
    board = {"python_version": python, "platform_machine": machine}
    found = [Requirement(line) for line in re.findall(r'^    "(.+)",$', block, re.M)]
    mine = [
        each
        for each in found
        if each.name == package and (each.marker is None or each.marker.evaluate(board))
    ]
    # Old versions of pip, as on a Jetson Nano, take no name twice.
    assert len(mine) == 1
    return mine[0].specifier.contains(version)


def test_names_are_unique_and_an_unknown_one_lists_them() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {"pi-zero2", "pi4", "pi5", "jetson-nano"} <= set(NAMES)
    assert board_named("pi4").cpu == "cortex-a72"
    with pytest.raises(KeyError, match="'pi6'; known are pi-zero2, "):
        board_named("pi6")


def test_no_model_is_claimed_twice() -> None:
    models = [model for board in BOARDS for model in board.models]
    assert not [a for a in models for b in models if a != b and a.startswith(b)]
    assert [board.name for board in BOARDS if not board.models] == ["aarch64"]


@pytest.mark.parametrize("board", BOARDS, ids=NAMES)
def test_a_board_gets_the_newest_wheel_of_its_python(board: Board) -> None:
    row = next(row for row in WHEELS if row.python == board.python)
    newest = row.onnxruntime
    if Version(board.glibc) < Version(row.glibc):
        newest = LAST_ONNXRUNTIME_FOR_GLIBC_2_27
    assert board.onnxruntime == newest
    assert board.debian in ("11", "12", "13")
    assert board.memory_bytes >= 512 * 2**20


@pytest.mark.parametrize("board", BOARDS, ids=NAMES)
def test_pins_admit_what_works_and_nothing_that_dies(board: Board) -> None:
    for version in (board.onnxruntime, OLDEST_ONNXRUNTIME):
        assert admitted("onnxruntime", version, board.python)
    assert not any(admitted("onnxruntime", bad, board.python) for bad in board.bad_onnxruntime)


def test_the_version_that_dies_is_excluded_on_arm_alone() -> None:
    assert not admitted("onnxruntime", "1.21.0", "3.11")
    assert admitted("onnxruntime", "1.21.0", "3.11", machine="x86_64")
    assert admitted("onnxruntime", "1.21.1", "3.11")


def test_pins_stop_where_python_38_and_39_have_no_wheel() -> None:
    for row in WHEELS:
        assert admitted("onnxruntime", row.onnxruntime, row.python)
        assert admitted("numpy", row.numpy, row.python)
    assert not admitted("onnxruntime", "1.20.1", "3.8")
    assert not admitted("onnxruntime", "1.16.2", "3.11")


def test_the_page_shows_the_same_tables() -> None:
    page = (REPOSITORY / "docs" / "boards.md").read_text(encoding="utf-8")
    for board in BOARDS:
        memory = f"{board.memory_bytes // 2**20} MiB"
        bad = ", ".join(board.bad_onnxruntime) or "-"
        cells = (board.name, board.title, board.cpu, memory, board.system, board.glibc)
        cells += (board.python, board.debian, board.onnxruntime, bad)
        assert f"| {' | '.join(cells)} |" in page
    for row in WHEELS:
        assert f"| {row.python} | {row.onnxruntime} | {row.glibc} | {row.numpy} |" in page
