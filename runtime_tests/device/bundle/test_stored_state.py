"""A state read tensor by tensor is the state, and never all of it in memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import StateInfo, load_state, open_state, save_state
from mobiletl.device.bundle.stored_state import StoredState
from mobiletl.device.errors import BadState
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

ROWS, COLUMNS = 40, 25_000  # 4 MB in 40 tensors


@pytest.fixture
def large(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    tensors = {f"row.{k}": random.random(COLUMNS).astype(np.float32) for k in range(ROWS)}
    tensors["count"] = np.array(3, np.float32)
    save_file(tensors, str(tmp_path / "large.safetensors"), {"a": "b"})
    return tmp_path / "large.safetensors"


def test_it_is_what_the_library_reads(large: Path) -> None:
    expected = load_file(str(large))
    with StoredState(large) as stored:
        assert stored.metadata == {"a": "b"}
        assert sorted(stored) == sorted(expected)
        assert len(stored) == ROWS + 1
        for name, tensor in expected.items():
            assert stored[name].shape == tensor.shape
            assert stored[name].tobytes() == tensor.tobytes()
        with pytest.raises(KeyError):
            stored["none"]


def test_one_tensor_at_a_time_is_in_memory(large: Path) -> None:
    with StoredState(large) as stored:
        tracemalloc.start()
        try:
            total = sum(float(tensor.sum()) for tensor in map(stored.__getitem__, stored))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert total > 0
    assert peak < 4 * 4 * COLUMNS


def test_other_types_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.int64)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(ValueError, match="it holds I64, expected F32"):
        StoredState(tmp_path / "x.safetensors")


def test_a_file_that_is_cut_off_after_it_was_opened(large: Path) -> None:
    with StoredState(large) as stored:
        with large.open("rb+") as file:
            file.truncate(large.stat().st_size - 10)
        with pytest.raises(OSError, match="cannot be read whole"):
            dict(stored)


def test_a_session_goes_on_from_it(tmp_path: Path) -> None:
    bundle = open_bundle(write_tiny_bundle(tmp_path / "bundle", graphs=False))
    state = bundle.initial_state(3, 1)
    info = StateInfo(bundle.manifest.fit, ("a", "b", "c"), epoch=1, step=2, seed=0)
    path = tmp_path / "state.safetensors"
    save_state(path, state, info)
    stored, found = open_state(path, bundle.manifest)
    with stored:
        assert found == load_state(path, bundle.manifest)[1]
        assert all(stored[name].tobytes() == state[name].tobytes() for name in state)
        assert stored.keys() == state.keys()


def test_a_state_of_whole_numbers_is_damaged(tmp_path: Path) -> None:
    bundle = open_bundle(write_tiny_bundle(tmp_path / "bundle", graphs=False))
    facts = {"format": "mobiletl-state-2", "info": json.dumps({}), "sha256": "0" * 64}
    save_file({"a": np.zeros(2, np.int64)}, str(tmp_path / "x.safetensors"), facts)
    with pytest.raises(BadState, match=r"is damaged \(it holds I64, expected F32"):
        open_state(tmp_path / "x.safetensors", bundle.manifest)
