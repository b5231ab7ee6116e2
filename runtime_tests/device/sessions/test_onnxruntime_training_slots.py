"""The optimizer's part of the state as onnxruntime-training keeps it, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from mobiletl.device.bundle.manifest import StateEntry
from mobiletl.device.sessions.onnxruntime_training.checkpoint import Values
from mobiletl.device.sessions.onnxruntime_training.slots import Slots


def entry(name: str, role: str, *shape: int) -> StateEntry:
    return StateEntry(name, role, shape, "float32", "file")


TOP = (entry("fc.weight", "parameter", 2), entry("norm.running_var", "statistic", 2))
SGD = Slots((*TOP, entry("sgd.momentum/fc.weight", "slot", 2)), (0.1,), ())
ADAM = Slots(
    (
        *TOP,
        entry("adam.correction1", "slot"),
        entry("adam.correction2", "slot"),
        entry("adam.m/fc.weight", "slot", 2),
        entry("adam.v/fc.weight", "slot", 2),
    ),
    (1.0, 0.5),
    (0.9, 0.999),
)


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_momentum_is_a_moment_divided_by_its_unit() -> None:
    state = {
        "fc.weight": row(1, 2),
        "norm.running_var": row(3, 4),
        "sgd.momentum/fc.weight": row(5, -6),
    }
    values = SGD.to_runtime(state)
    np.testing.assert_allclose(values.tensors["momentum0/fc.weight"], row(0.5, -0.6), rtol=1e-6)
    np.testing.assert_array_equal(values.tensors["momentum1/fc.weight"], row(0, 0))
    assert values.step == 0
    assert set(values.tensors) == {
        "fc.weight",
        "norm.running_var",
        "momentum0/fc.weight",
        "momentum1/fc.weight",
    }
    back = SGD.to_state(values)
    assert list(back) == list(state)
    for name, value in state.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-6)


def test_moments_have_units_of_their_own() -> None:
    tensors = {
        "fc.weight": row(1, 2),
        "norm.running_var": row(3, 4),
        "momentum0/fc.weight": row(1, 1),
        "momentum1/fc.weight": row(1, 1),
    }
    state = ADAM.to_state(Values(tensors, 3))
    np.testing.assert_array_equal(state["adam.m/fc.weight"], row(1, 1))
    np.testing.assert_array_equal(state["adam.v/fc.weight"], row(2, 2))
    np.testing.assert_allclose(state["adam.correction1"], 1 - 0.9**3, rtol=1e-6)
    np.testing.assert_allclose(state["adam.correction2"], 1 - 0.999**3, rtol=1e-6)


@pytest.mark.parametrize("step", [0, 1, 2, 100, 1000, 5000])
def test_steps_are_counted_from_corrections(step: int) -> None:
    """As the training step accumulates them: c' = beta c + (1 - beta), in float32."""
    corrections = [np.float32(0), np.float32(0)]
    for _ in range(step):
        corrections = [
            np.float32(b) * c + np.float32(1 - b) for b, c in zip(ADAM.betas, corrections)
        ]
    found = ADAM.to_runtime(adam_state(*map(float, corrections))).step
    assert found == pytest.approx(step, rel=2e-3, abs=0.5)


def test_corrections_that_have_arrived_count_many_steps() -> None:
    step = ADAM.to_runtime(adam_state(1.0, 1.0)).step
    assert 0.999**step < 1e-7


def adam_state(first: float, second: float) -> dict:
    zeros = row(0, 0)
    state = {entry.name: zeros for entry in ADAM.entries}
    state["adam.correction1"] = np.array(first, np.float32)
    state["adam.correction2"] = np.array(second, np.float32)
    return state
