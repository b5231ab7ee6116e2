"""The studio's server takes little more than its libraries, and its training what is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.processes import unpacked
from bench.studio import measure
from mobiletl.device.studio.decoding import MOST_BYTES
from runtime_tests.support.board.shared_files import shared
from runtime_tests.support.exported_bundles import Case, exported

MOST_ABOVE_BYTES = 60_000_000
# The run's own bar, see test_measured_process.py, is wider: it is for the smallest networks.
MOST_OF_THE_PLAN = 1.05
# Of one large picture: what may be decoded in the server, and a request's own.
MOST_GROWTH_BYTES = 20_000_000
# The process that decodes: what one picture may take, and its libraries.
MOST_BESIDE_BYTES = MOST_BYTES + 45_000_000


@pytest.mark.slow
def test_the_server_stays_near_its_libraries(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = unpacked(shared("data/trashnet6.zip"), tmp_path / "data")
    bundle = exported(tmp_path_factory, Case("mobiletl", 3, real=True, resolution=224))
    found = measure(bundle, data)
    assert found.above_bytes <= MOST_ABOVE_BYTES
    for one in found.large:
        assert one.server_bytes <= MOST_GROWTH_BYTES, one
        assert one.beside_bytes <= MOST_BESIDE_BYTES, one
    # These two are reduced while they are decoded, and the server does that itself.
    assert {one.name for one in found.large if not one.beside_bytes} == {"12 MP JPEG", "12 MP PNG"}
    # A training is no part of the server.
    assert found.training_peak_bytes <= found.peak_bytes + 3_000_000
    assert found.training["state"] == "finished"
    assert found.training["measured_mb"] <= MOST_OF_THE_PLAN * found.training["planned_mb"]
