"""The parts of int8: rounding, counting changed labels, invented pictures, the layers chosen."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mobiletl.device.bundle.manifest import Input
from mobiletl.export.finish.int8_check import agreement, logits_of
from mobiletl.export.finish.int8_noise import COUNT, noise_pictures
from mobiletl.export.finish.int8_weights import pack, put_values, rounded, rounded_kernels

Floats = NDArray[np.float32]
INPUT = Input(32, 36, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def nearest(weight: Floats) -> Floats:
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    return np.asarray(np.rint(weight / scale) * scale, np.float32)


def test_rounding_for_the_inputs_beats_rounding_to_the_nearest() -> None:
    random = np.random.default_rng(0)
    # Inputs as activations are: none negative, and few things vary in them.
    x = np.maximum(random.standard_normal((64, 8)) @ random.standard_normal((8, 4000)) + 1, 0)
    weight = random.standard_normal((16, 64)).astype(np.float32)
    values = rounded(weight, x @ x.T).values()
    errors = [np.linalg.norm((weight - other) @ x) for other in (values, nearest(weight))]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("shape", [(5, 12), (5, 12, 1, 1)])
def test_levels_fill_their_range(shape: tuple[int, ...]) -> None:
    """onnxruntime's quantizer, which sees only the values, must find the same scale."""
    random = np.random.default_rng(1)
    weight = random.standard_normal(shape).astype(np.float32)
    x = random.standard_normal((12, 30))
    kernel = rounded(weight, x @ x.T)
    assert kernel.levels.shape == shape
    assert kernel.levels.dtype == np.int8
    levels = np.abs(kernel.levels.reshape(5, 12).astype(int))
    assert (levels.max(axis=1) == 127).all()
    flat = kernel.values().reshape(5, 12)
    np.testing.assert_allclose(np.abs(flat).max(axis=1) / 127, kernel.scale, rtol=1e-6)


def test_inputs_that_never_come_and_channels_of_zeros() -> None:
    weight = np.array([[0.0, 0.0], [1.0, -0.5]], np.float32)
    values = rounded(weight, np.zeros((2, 2))).values()
    np.testing.assert_allclose(values, weight, atol=1 / 254)
    assert (values[0] == 0).all()


def test_labels_are_counted_and_expected() -> None:
    wanted = np.array([[3, 0, 0], [0, 1, 0], [0, 0, 0.5]], np.float32)
    same = agreement(wanted, wanted)
    assert (same.pictures, same.changed, same.expected) == (3, 0, 0.0)
    found = wanted.copy()
    found[1] = [0.7, 0, 0]  # a lead of 1.0 becomes -0.7, by 1.7
    one = agreement(wanted, found)
    # That shrinking takes the lead of 1.0 and 0.5, not of 3: two of nine pairs.
    assert (one.changed, one.expected) == (1, pytest.approx(2 / 9))


def test_noise_is_the_same_every_time_and_within_what_pictures_hold() -> None:
    pictures = noise_pictures(INPUT)
    assert len(pictures) == COUNT
    assert pictures[0].shape == (1, 3, 32, 32)
    assert pictures[0].dtype == np.float32
    for one, two in zip(pictures, noise_pictures(INPUT), strict=True):
        assert (one == two).all()
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (INPUT.mean, INPUT.std))
    pixels = np.concatenate(pictures) * std + mean
    assert pixels.min() >= -1e-6
    assert pixels.max() <= 1 + 1e-6
    # Neighbours are alike, as in photographs.
    one, two = pixels[..., :-1].ravel(), pixels[..., 1:].ravel()
    assert np.corrcoef(one, two)[0, 1] > 0.5


def small_network() -> onnx.ModelProto:
    """images [N,3,8,8] -> 3x3 convolution, 1x1 convolution, average, linear -> logits [N,4]."""
    random = np.random.default_rng(2)
    shapes = {"first": (8, 3, 3, 3), "point": (40, 8, 1, 1), "linear": (4, 40)}
    values = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    constants = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "point"], ["c"]),
        helper.make_node("ReduceMean", ["c", "axes"], ["d"], keepdims=0),
        helper.make_node("Gemm", ["d", "linear"], ["logits"], transB=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("images", ["N", 3, 8, 8]), ("logits", ["N", 4]))
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_packed_and_rounded_are_the_same_network() -> None:
    random = np.random.default_rng(3)
    images = [random.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(6)]
    model = small_network()
    wanted = logits_of(model, images)
    kernels = rounded_kernels(model, images)
    # The first convolution stays float: it is no matrix product, and the pictures' own errors
    # would go through it.
    assert sorted(kernels) == ["linear", "point"]
    put_values(model, kernels)
    floats = logits_of(model, images)
    pack(model, kernels)
    onnx.checker.check_model(model, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert types["point.int8"] == types["linear.int8"] == TensorProto.INT8
    assert types["first"] == TensorProto.FLOAT
    np.testing.assert_allclose(logits_of(model, images), floats, atol=1e-4, rtol=0)
    assert 0 < np.abs(floats - wanted).max() < 0.05 * np.abs(wanted).max()
