"""The memory of a process that trains after its pictures were taken by a real camera library."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capture.then_train import measured
from bench.processes import unpacked
from runtime_tests.support.board.shared_files import shared
from runtime_tests.support.exported_bundles import Case, exported


@pytest.mark.slow
def test_training_after_a_camera_keeps_to_its_plan(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("cv2")
    data = unpacked(shared("data/animals4.zip"), tmp_path / "data")
    bundle = exported(tmp_path_factory, Case("mobiletl", 3, real=True, resolution=224))
    ((peak, planned),) = measured(bundle, data, 1)["train --camera"]
    assert peak <= 1.05 * planned
