"""Maps in bytes: PyTorch, ONNX on onnxruntime and TorchScript against the loops in NumPy."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnxscript import ir
from torch import Tensor

from mobiletl.core.layers import bytes_reference as reference
from mobiletl.core.layers.bytes import STEPS, TINIEST, pack_bytes, unpack_bytes
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.lowering.torchscript.program import lower_to_torchscript
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.tracing.trace import Input, Traced, trace

Floats = NDArray[np.float32]
MAPS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=4, max_dims=4, max_side=4),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False) | st.sampled_from([0.0, -0.0]),
)
SHAPE = (3, 8, 5, 7)


def maps() -> Floats:
    """Of channels from all negative to all positive, of zeros, and with ties between two bytes."""
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    x[:, 1] = np.abs(x[:, 1]) + 2
    x[:, 2] = -np.abs(x[:, 2])
    x[:, 3] = 0
    x[:, 4] = 1e-37
    x[:, 5] *= 1e6
    x[:, 6] = np.arange(x[:, 6].size, dtype=np.float32).reshape(x[:, 6].shape) / 2
    x[0, 6, 0, 0] = STEPS  # a scale of one: every half is a tie
    return x


@given(x=MAPS, axis=st.sampled_from([0, 1]))
@settings(deadline=None, max_examples=50)
def test_pytorch_packs_as_the_loops_do(x: Floats, axis: int) -> None:
    found = pack_bytes(torch.from_numpy(x), axis)
    expected = reference.pack_bytes(x, axis)
    for tensor, array in zip(found, expected, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)
    back = unpack_bytes(*found, axis).numpy()
    np.testing.assert_array_equal(back, reference.unpack_bytes(*expected, axis))


@given(x=MAPS)
@settings(deadline=None, max_examples=50)
def test_nothing_moves_by_more_than_a_step_and_zero_stays(x: Floats) -> None:
    kept, scale, zero = pack_bytes(torch.from_numpy(x), 1)
    error = (unpack_bytes(kept, scale, zero, 1) - torch.from_numpy(x)).abs()
    # Rounding of the quotient: the largest is 255, so a step is off by 255 units in the last place.
    assert bool((error <= scale.view(1, -1, 1, 1) * 1.0001).all())
    assert bool((error[torch.from_numpy(x == 0)] == 0).all())
    assert bool((scale >= TINIEST).all())


@pytest.mark.parametrize("axis", [0, 1])
def test_onnxruntime_gives_the_same_bytes(axis: int) -> None:
    """Channel-major, as in a training step, and plain."""
    x = np.ascontiguousarray(np.swapaxes(maps(), 0, 1)) if axis == 0 else maps()
    shape: tuple[int | str, ...] = (8, "N", 5, 7) if axis == 0 else ("N", 8, 5, 7)
    proto = ir.to_proto(lower_to_onnx(_traced(shape, axis), "bytes"))
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    _compare(session.run(None, {"x": x}), x, axis)


def test_torchscript_gives_the_same_bytes() -> None:
    content = lower_to_torchscript(run_passes(_traced(("N", 8, 5, 7), 1), "torchscript"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load", DeprecationWarning)
        program = torch.jit.load(io.BytesIO(content))
    _compare([value.numpy() for value in program(torch.from_numpy(maps()))], maps(), 1)


def test_the_passes_turn_the_axis_with_the_map() -> None:
    """Channel-major bytes are of channels as well, and are turned back for the output."""
    proto = ir.to_proto(lower_to_onnx(run_passes(_traced(("N", 8, 5, 7), 1)), "bytes"))
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    axes = {
        attribute.i
        for node in proto.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for attribute in node.attribute
        if attribute.name == "axis"
    }
    assert axes == {0}
    _compare(session.run(None, {"x": maps()}), maps(), 1)


def _traced(shape: tuple[int | str, ...], axis: int) -> Traced:
    def both(x: Tensor) -> tuple[Tensor, ...]:
        packed = pack_bytes(x, axis)
        return (*packed, unpack_bytes(*packed, axis))

    return trace(both, [Input("x", shape)], ["kept", "scale", "zero", "back"])


def _compare(found: list[Any], x: Floats, axis: int) -> None:
    packed = reference.pack_bytes(x, axis)
    expected = (*packed, reference.unpack_bytes(*packed, axis))
    for value, array in zip(found, expected, strict=True):
        assert value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)
