"""Rounding of kernels: within a level, better than the nearest one, and what the bias takes up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

from mobiletl.export.prefix.ranges import Columns, columns_at
from mobiletl.export.prefix.rounding import rounded

Floats = npt.NDArray[np.float32]
LARGEST = 15


def columns_of(x: npt.NDArray[np.float64]) -> Columns:
    """Of columns [G,D,places]."""
    return Columns(x.sum(axis=2), x @ x.transpose(0, 2, 1), x.shape[2])


def cost(
    kernel: Floats, levels: npt.NDArray[np.int8], scale: Floats, lost: Floats, x: Floats
) -> float:
    """What the outputs change by, in squares, with the bias put right."""
    groups, numbers, _ = x.shape
    wanted = kernel.reshape(groups, -1, numbers)
    found = levels.reshape(wanted.shape) * scale.reshape(groups, -1, 1)
    error = (wanted - found) @ x - lost.reshape(groups, -1, 1)
    return float(np.square(error).mean())


@pytest.mark.parametrize(("groups", "outputs", "inputs"), [(1, 8, 24), (6, 6, 1), (2, 8, 5)])
def test_outputs_change_less_than_with_the_nearest_levels(
    groups: int, outputs: int, inputs: int
) -> None:
    draw = np.random.default_rng(0)
    side = 1 if groups == 1 else 3
    kernel = draw.standard_normal((outputs, inputs, side, side)).astype(np.float32)
    numbers = inputs * side * side
    # Neighbours in a map say nearly the same, and no mean is 0.
    mixing = draw.standard_normal((numbers, numbers)) * 0.3 + np.eye(numbers) + 0.5
    x = mixing @ draw.standard_normal((groups, numbers, 4000)) + draw.standard_normal(
        (groups, numbers, 1)
    )
    levels, scale, lost = rounded(kernel, columns_of(x), LARGEST, np.zeros(outputs, np.float32))
    assert (levels.dtype, scale.dtype, lost.dtype) == (np.int8, np.float32, np.float32)
    assert levels.shape == kernel.shape
    assert np.abs(levels).max() <= LARGEST
    nearest = np.rint(kernel / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
    rest = (kernel - nearest * scale.reshape(-1, 1, 1, 1)).reshape(groups, -1, numbers)
    mean = (rest * x.mean(axis=2)[:, None, :]).sum(axis=2).reshape(-1)
    assert cost(kernel, levels, scale, lost, x) < 0.8 * cost(kernel, nearest, scale, mean, x)


def test_the_bias_takes_up_the_mean() -> None:
    draw = np.random.default_rng(1)
    kernel = draw.standard_normal((4, 6, 1, 1)).astype(np.float32)
    x = draw.standard_normal((1, 6, 500)) + 3
    levels, scale, lost = rounded(kernel, columns_of(x), LARGEST, np.zeros(4, np.float32))
    found = levels.reshape(4, 6) * scale[:, None]
    error = (kernel.reshape(4, 6) - found) @ x[0] - lost[:, None]
    np.testing.assert_allclose(error.mean(axis=1), 0, atol=1e-5)


def test_a_scale_is_never_below_what_the_bias_needs() -> None:
    kernel = np.zeros((2, 1, 1, 1), np.float32)
    x = columns_of(np.zeros((2, 1, 10)))
    _, scale, lost = rounded(kernel, x, LARGEST, np.array([0.25, 0.0], np.float32))
    assert scale.tolist() == [0.25, 1.0]
    assert lost.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("group", "kernel", "stride", "dilation", "pads"),
    [
        (1, 1, 1, 1, 0),
        (1, 3, 1, 1, 1),
        (4, 3, 2, 1, 1),
        (2, 3, 1, 2, 2),
    ],
)
def testcolumns_at_are_what_a_kernel_is_multiplied_with(
    group: int, kernel: int, stride: int, dilation: int, pads: int
) -> None:
    """Against onnx's own convolution, on a map that is small enough for every place to count."""
    draw = np.random.default_rng(2)
    x = draw.standard_normal((1, 4, 9, 9)).astype(np.float32)
    weight = draw.standard_normal((4, 4 // group, kernel, kernel)).astype(np.float32)
    attributes = {
        "group": group,
        "strides": [stride] * 2,
        "dilations": [dilation] * 2,
        "pads": [pads] * 4,
        "kernel_shape": [kernel] * 2,
    }
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    (wanted,) = _reference(node, x, weight)
    found = columns_at(node, weight.shape, x)
    flat = weight.reshape(group, -1, found.shape[1])
    np.testing.assert_allclose((flat @ found).reshape(4, -1), wanted[0].reshape(4, -1), atol=1e-4)


def _reference(node: onnx.NodeProto, x: Floats, weight: Floats) -> list[Floats]:
    from onnx.reference import ReferenceEvaluator

    model = helper.make_model(
        helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape),
                helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, weight.shape),
            ],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    found: list[Floats] = ReferenceEvaluator(model).run(None, {"x": x, "w": weight})
    return found
