"""Convolutions on bytes: against integers in NumPy, and where a byte is no float any more."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mobiletl.export.prefix.eight_bits import (
    LARGEST_ALONE,
    LARGEST_WEIGHT,
    fused_clips,
    in_eight_bits,
    scale_of,
)
from mobiletl.export.prefix.ranges import measured_ranges

SIDE, CHANNELS = 8, 6


def graph(
    nodes: list[onnx.NodeProto], constants: dict[str, npt.NDArray[Any]], output: str, channels: int
) -> onnx.ModelProto:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "features",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", channels, None, None])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model


def conv(x: str, w: str, y: str, groups: int = 1, pads: int = 1) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, w, f"{w}.b"], [y], group=groups, pads=[pads] * 4)


def block() -> onnx.ModelProto:
    """Images, a convolution, a depthwise one, a linear one, and a residual around the last two."""
    draw = np.random.default_rng(0)

    def kernel(*shape: int) -> npt.NDArray[np.float32]:
        return (0.4 * draw.standard_normal(shape)).astype(np.float32)

    c = CHANNELS
    constants: dict[str, npt.NDArray[Any]] = {
        "w0": kernel(c, 3, 3, 3),
        "w0.b": kernel(c),
        "w1": kernel(c, 1, 3, 3),
        "w1.b": kernel(c),
        "w2": kernel(c, c, 1, 1),
        "w2.b": kernel(c),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    nodes = [
        conv("images", "w0", "a"),
        helper.make_node("Clip", ["a", "zero", "six"], ["b"]),
        conv("b", "w1", "c", groups=c),
        helper.make_node("Clip", ["c", "zero", "six"], ["d"]),
        conv("d", "w2", "e", pads=0),
        helper.make_node("Add", ["b", "e"], ["h"]),
    ]
    return graph(nodes, constants, "h", c)


def images(count: int) -> list[npt.NDArray[np.float32]]:
    draw = np.random.default_rng(1)
    return [draw.standard_normal((1, 3, SIDE, SIDE)).astype(np.float32) for _ in range(count)]


def run(model: onnx.ModelProto, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: npt.NDArray[np.float32] = session.run(None, {"images": image})[0]
    return found


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    return in_eight_bits(model, measured_ranges(model, images(16)))


def test_it_computes_nearly_the_same() -> None:
    model = block()
    in_bytes = quantised(model)
    for image in images(20)[16:]:
        wanted, found = run(model, image), run(in_bytes, image)
        assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)


def test_convolutions_and_their_clips_are_on_bytes_and_sums_are_floats() -> None:
    kinds = [node.op_type for node in quantised(block()).graph.node]
    assert kinds.count("QLinearConv") == 3
    assert kinds.count("Add") == 1
    assert "Clip" not in kinds
    assert "Conv" not in kinds
    # The images, and back to floats what the sum reads.
    assert kinds.count("QuantizeLinear") == 1
    assert kinds.count("DequantizeLinear") == 2


def test_onnx_says_the_same_to_one_byte() -> None:
    """The runtime's kernels against the operators' own definition, on each map in bytes."""
    model = quantised(block())
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    names = [
        n.output[0] for n in model.graph.node if n.op_type in ("QLinearConv", "QuantizeLinear")
    ]
    del shown.graph.output[:]
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in names
    )
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    # The evaluator has DequantizeLinear from version 19 on, which means the same here.
    shown.opset_import[0].version = 19
    evaluator = ReferenceEvaluator(shown)
    for image in images(3):
        found = session.run(names, {"images": image})
        for name, ours, theirs in zip(
            names, found, evaluator.run(names, {"images": image}), strict=True
        ):
            assert ours.dtype == np.uint8
            # A sum between two bytes may become either: their scales are multiplied in floats.
            assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1, name


@pytest.mark.parametrize("groups", [1, 4])
def test_the_largest_sums_are_exact(groups: int) -> None:
    """All bytes 255 and all weights the largest: what adds pairs in 16 bits must hold them."""
    channels = 4
    signs = np.array([1, -1, 1, -1], np.float32)[:, None, None, None]
    constants: dict[str, npt.NDArray[Any]] = {
        "w0": np.ones((channels, 3, 1, 1), np.float32),
        "w0.b": np.zeros(channels, np.float32),
        "w1": np.ones((channels, channels // groups, 3, 3), np.float32) * signs,
        "w1.b": np.zeros(channels, np.float32),
    }
    nodes = [conv("images", "w0", "a", pads=0), conv("a", "w1", "h", groups=groups)]
    model = graph(nodes, constants, "h", channels)
    image = np.full((1, 3, SIDE, SIDE), 2.0, np.float32)
    in_bytes = in_eight_bits(model, measured_ranges(model, [image]))
    levels = next(numpy_helper.to_array(t) for t in in_bytes.graph.initializer if t.name == "w1/q")
    largest = LARGEST_WEIGHT if groups == 1 else LARGEST_ALONE
    assert np.abs(levels).max() == largest
    assert 2 * 255 * LARGEST_WEIGHT < 2**15
    np.testing.assert_allclose(run(in_bytes, image), run(model, image), rtol=0.01)


def test_channels_without_weights_keep_their_bias() -> None:
    constants: dict[str, npt.NDArray[Any]] = {
        "w0": np.zeros((2, 3, 3, 3), np.float32),
        "w0.b": np.array([0.75, 0.0], np.float32),
    }
    model = graph([conv("images", "w0", "h")], constants, "h", 2)
    found = run(quantised(model), images(1)[0])
    np.testing.assert_allclose(found[0, 0], 0.75, atol=0.01)
    assert (found[0, 1] == 0).all()


def test_a_bias_far_above_its_weights_stays_in_32_bits() -> None:
    constants: dict[str, npt.NDArray[Any]] = {
        "w0": np.full((1, 3, 3, 3), 1e-9, np.float32),
        "w0.b": np.array([5.0], np.float32),
    }
    model = graph([conv("images", "w0", "h")], constants, "h", 1)
    np.testing.assert_allclose(run(quantised(model), images(1)[0]), 5.0, rtol=0.01)


@pytest.mark.parametrize(
    ("change", "fused"),
    [
        ("none", True),
        ("relu", True),
        ("read twice", False),
        ("from below 0", False),
        ("a result", False),
    ],
)
def test_which_clips_go_into_the_convolution(change: str, fused: bool) -> None:
    constants: dict[str, npt.NDArray[Any]] = {
        "w0": np.ones((2, 3, 3, 3), np.float32),
        "w0.b": np.zeros(2, np.float32),
        "low": np.float32(-1 if change == "from below 0" else 0),
        "six": np.float32(6),
    }
    clip = helper.make_node("Clip", ["a", "low", "six"], ["b"])
    if change == "relu":
        clip = helper.make_node("Relu", ["a"], ["b"])
    nodes = [conv("images", "w0", "a"), clip]
    output = "b"
    if change == "read twice":
        nodes.append(helper.make_node("Add", ["a", "b"], ["h"]))
        output = "h"
    model = graph(nodes, constants, "a" if change == "a result" else output, 2)
    assert bool(fused_clips(model.graph)) == fused
    image = images(1)[0]
    wanted, found = run(model, image), run(quantised(model), image)
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max() + 0.05


@pytest.mark.parametrize("bias", [-50.0, 0.0])
def test_pictures_unlike_the_calibrating_ones_are_cut_all_the_same(bias: float) -> None:
    """With a bias of -50 the Clip lets nothing through while ranges are measured."""
    constants: dict[str, npt.NDArray[Any]] = {
        "w0": np.ones((2, 3, 3, 3), np.float32),
        "w0.b": np.full(2, bias, np.float32),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    nodes = [conv("images", "w0", "a"), helper.make_node("Clip", ["a", "zero", "six"], ["h"])]
    model = quantised(graph(nodes, constants, "h", 2))
    found = run(model, np.full((1, 3, SIDE, SIDE), 2.6, np.float32))
    assert found.max() == pytest.approx(6.0, abs=0.05)


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (2.0, 6.0), (-4.0, -1.0), (0.0, 0.0)]
)
def test_zero_is_a_byte(low: float, high: float) -> None:
    scale = scale_of(low, high)
    assert scale.s > 0
    ends = scale.s * (np.array([0, 255]) - int(scale.z))
    assert ends[0] <= min(low, 0) + scale.s
    assert ends[1] >= max(high, 0) - scale.s
    assert 0 <= int(scale.z) <= 255
