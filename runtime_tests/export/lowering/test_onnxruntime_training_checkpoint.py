"""onnxruntime-training's checkpoint: what the exporter writes, the board's reader reads and
rewrites. That the package itself takes it: test_onnxruntime_training.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.errors import BadBundle
from mobiletl.device.sessions.onnxruntime_training.checkpoint import (
    Values,
    change_checkpoint,
    mapped,
    read_checkpoint,
)
from mobiletl.export.lowering.onnx_training.checkpoint import Checkpoint, write_checkpoint

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
MEAN = np.array([0.5, -1.0], np.float32)
EXAMPLE = Checkpoint(
    {"fc.weight": WEIGHT, "fc.bias": np.ones(2, np.float32)},
    {"norm.running_mean": MEAN, "scalar": np.array(3.0, np.float32)},
    0.002,
    {"mobiletl.classes": 2, "mobiletl.betas": "0.9 0.999", "rate": 0.5},
)
MOMENTS = {
    f"{moment}/{name}": np.zeros_like(value)
    for name, value in EXAMPLE.trained.items()
    for moment in ("momentum0", "momentum1")
}


def assert_tensors(found: Values, expected: dict[str, np.ndarray]) -> None:
    assert set(found.tensors) == set(expected)
    for name, value in expected.items():
        assert found.tensors[name].dtype == np.float32, name
        np.testing.assert_array_equal(found.tensors[name], value, strict=True)


def test_what_is_written_is_read() -> None:
    found = read_checkpoint(write_checkpoint(EXAMPLE))
    assert_tensors(found, {**EXAMPLE.trained, **EXAMPLE.frozen, **MOMENTS})
    assert found.step == 0


def test_file_starts_as_the_format_says() -> None:
    content = write_checkpoint(EXAMPLE)
    assert content[4:8] == b"ODTC"
    for text in (b"group0", b"mobiletl.betas", b"0.9 0.999", b"momentum1"):
        assert text in content


def test_same_checkpoint_same_bytes() -> None:
    assert write_checkpoint(EXAMPLE) == write_checkpoint(EXAMPLE)


def test_equal_zeros_are_written_once() -> None:
    large = {f"w{i}": np.full((1000,), i + 1, np.float32) for i in range(4)}
    size = len(write_checkpoint(Checkpoint(large, {}, 0.1)))
    assert size < 4000 * (len(large) + 1) + 4000, "four parameters and one row of zeros"


def test_values_may_change_shape(tmp_path: Path) -> None:
    """Another number of classes: rows come, the rest of the file stays."""
    content = write_checkpoint(EXAMPLE)
    tensors = {
        name: np.resize(value, (5, *value.shape[1:])) + 1 if "fc." in name else value
        for name, value in read_checkpoint(content).tensors.items()
    }
    file = tmp_path / "checkpoint"
    file.write_bytes(content)
    change_checkpoint(file, Values(tensors, 41))
    found = read_checkpoint(file.read_bytes())
    assert_tensors(found, tensors)
    assert found.step == 41
    change_checkpoint(file, replace(found, step=42))
    again = read_checkpoint(mapped(file))
    assert_tensors(again, tensors)
    assert again.step == 42


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\x10\x00\x00\x00ODTX" * 4])
def test_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="export the bundle again"):
        read_checkpoint(content)
    file = tmp_path / "checkpoint"
    file.write_bytes(content)
    with pytest.raises(BadBundle, match="export the bundle again"):
        change_checkpoint(file, Values({}, 0))
    assert file.read_bytes() == content


@pytest.mark.parametrize("length", [8, 40, 200, 500])
def test_cut_off(length: int) -> None:
    with pytest.raises(BadBundle, match="export the bundle again"):
        read_checkpoint(write_checkpoint(EXAMPLE)[:length])
