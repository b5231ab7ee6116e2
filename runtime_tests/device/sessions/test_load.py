"""A session goes on from another state without being opened anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.support.board.loading import assert_load_is_as_opened
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle


@pytest.mark.parametrize("runtime", ["onnxruntime", "fake"])
def test_a_loaded_state_is_as_an_opened_one(tmp_path: Path, runtime: str) -> None:
    bundle = open_bundle(write_tiny_bundle(tmp_path))
    noise = np.random.default_rng(0)
    h = noise.standard_normal((4, *bundle.manifest.feature.shape)).astype(np.float32)
    assert_load_is_as_opened(
        lambda state: open_session(bundle, 3, state, 1, runtime),
        bundle.initial_state(3, 0),
        bundle.initial_state(3, 1),
        h,
        np.array([0, 1, 2, 1], np.int64),
    )
