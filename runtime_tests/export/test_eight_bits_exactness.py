"""The exported step's own bytes and gradients against sums of whole numbers in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mobiletl.core.layers import bytes_reference as reference
from mobiletl.core.methods import find_method
from mobiletl.core.saved import EIGHT_BIT
from mobiletl.core.step import TrainingStep
from mobiletl.export.stock_graphs import lower_train_step
from runtime_tests.core.saved.test_policies import BATCH, prepared, step_of
from runtime_tests.support.networks import CLASSES

pytestmark = pytest.mark.usefixtures("one_thread")

# Sums of float32 products of some 200 elements, against float64.
SUMS = 2e-6


@pytest.fixture(scope="module")
def ran() -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The graph of a step, and every tensor of one run of it."""
    step, h = step_of(prepared(find_method("mobiletl"), EIGHT_BIT))
    _, channels, height, width = h.shape
    model = lower_train_step(step, (channels, height, width))
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    names = [name for node in model.graph.node for name in node.output]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = dict(zip(names, session.run(names, _feeds(step, h)), strict=True))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    return model, {**constants, **_feeds(step, h), **values}


def _feeds(step: TrainingStep, h: torch.Tensor) -> dict[str, Any]:
    return {
        **{entry.name: entry.value.numpy() for entry in step.entries},
        "h": h.numpy(),
        "labels": (np.arange(BATCH) % CLASSES).astype(np.int64),
        "lr": np.array(0.01, np.float32),
    }


def test_every_map_is_packed_as_the_loops_do(ran: tuple[onnx.ModelProto, dict[str, Any]]) -> None:
    model, values = ran
    packs = [
        node
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and values[node.input[0]].ndim == 4
    ]
    assert len(packs) >= 3
    for node in packs:
        x, scale, zero = (values[name] for name in node.input)
        kept, expected_scale, expected_zero = reference.pack_bytes(x, 0)
        np.testing.assert_array_equal(scale, expected_scale)
        np.testing.assert_array_equal(zero, expected_zero)
        np.testing.assert_array_equal(values[node.output[0]], kept)


def test_a_kernels_gradient_is_the_sum_over_whole_numbers(
    ran: tuple[onnx.ModelProto, dict[str, Any]],
) -> None:
    """Of every 1x1 convolution whose input was kept in bytes."""
    model, values = ran
    reader = {name: node for node in model.graph.node for name in node.input}
    writer = {name: node for node in model.graph.node for name in node.output}
    checked = 0
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        product = reader[reader[node.output[0]].output[0]]
        if product.op_type == "Transpose":
            product = reader[product.output[0]]
        if product.op_type not in ("Gemm", "MatMul"):
            continue
        gradient = values[writer[product.input[0]].input[0]]
        if gradient.ndim != 4:
            continue
        kept, scale, zero = (values[name] for name in node.input)
        major = (np.swapaxes(array, 0, 1) for array in (gradient, kept))
        expected = reference.pointwise_gradient(*major, scale, zero)
        found = values[product.output[0]]
        if found.shape == expected.shape:
            error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
            assert error <= SUMS, (product.name, error)
            checked += 1
    assert checked >= 2
