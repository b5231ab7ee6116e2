"""The memory of whole processes that train on real JPEGs, as the system counts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.processes import board_memory, eager_memory, unpacked
from runtime_tests.support.board.shared_files import shared
from runtime_tests.support.exported_bundles import REAL_WEIGHTS, Case, exported

LIMIT_BYTES = 130_000_000
TIMES_BELOW_PYTORCH = 4
# Above the plan: the runner's own modules, holes in the arena, pictures being decoded.
MOST_OF_THE_PLAN = 1.15
# Of a level, whose files of frozen layers are several.
MOST_OF_A_LEVELS_PLAN = 1.05


@pytest.mark.slow
def test_training_stays_below_its_limit_its_plan_and_pytorch(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = unpacked(shared("data/animals4.zip"), tmp_path / "data")
    bundle = exported(tmp_path_factory, Case("mobiletl", 3, real=True, resolution=224))
    measured, planned = board_memory(bundle, data, tmp_path / "run")
    eager = eager_memory(str(shared(REAL_WEIGHTS)), data, blocks=3)
    assert measured <= LIMIT_BYTES
    assert measured <= MOST_OF_THE_PLAN * planned
    assert measured * TIMES_BELOW_PYTORCH <= eager


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, 3, 5])
def test_a_level_stays_near_its_plan(
    blocks: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = unpacked(shared("data/animals4.zip"), tmp_path / "data")
    case = Case("mobiletl", 5, real=True, resolution=224, levels=(1, 3))
    bundle = exported(tmp_path_factory, case)
    run = tmp_path / "run"
    measured, planned = board_memory(bundle, data, run, "--blocks", str(blocks))
    assert measured <= MOST_OF_A_LEVELS_PLAN * planned
