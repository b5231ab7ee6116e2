"""Graphs in older versions compute the same, in onnxruntime and in onnx's own evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mobiletl.device.errors import UsageError
from mobiletl.device.finishing.opset import check_opset, in_opset, with_probabilities

Floats = NDArray[np.float32]
IMAGES = np.random.default_rng(0).normal(0, 3, (3, 4, 5, 5)).astype(np.float32)


def model(*nodes: onnx.NodeProto, opset: int = 18) -> onnx.ModelProto:
    """images [N,4,5,5] to logits [N,4], by way of `nodes`, the last of which makes `h`."""
    constants = {
        "map_axes": np.array([2, 3], np.int64),
        "negative": np.array([-1, -2], np.int64),
        "rows": np.array([2], np.int64),
        "shape": np.array([-1, 4], np.int64),
    }
    graph = helper.make_graph(
        [*nodes, helper.make_node("Reshape", ["h", "shape"], ["logits"])],
        "test",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["N", 4, 5, 5])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def computed(graph: onnx.ModelProto) -> list[Floats]:
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: list[Floats] = session.run(None, {"images": IMAGES})
    (expected, *_) = ReferenceEvaluator(graph).run(None, {"images": IMAGES})
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    return found


def kinds(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


MEAN = helper.make_node("ReduceMean", ["images", "map_axes"], ["h"], keepdims=1)


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
@pytest.mark.parametrize("axes", ["map_axes", "negative"])
def test_a_mean_over_the_map_is_a_global_average_in_every_version(opset: int, axes: str) -> None:
    before = model(helper.make_node("ReduceMean", ["images", axes], ["h"], keepdims=1))
    after = in_opset(before, opset)
    assert kinds(after) == ["GlobalAveragePool", "Reshape"]
    assert after.opset_import[0].version == opset
    # The axes are read by nobody any more.
    assert [tensor.name for tensor in after.graph.initializer] == ["shape"]
    np.testing.assert_allclose(computed(after)[0], IMAGES.mean((2, 3)), atol=1e-6)


def test_thirteen_is_the_version_if_none_is_named() -> None:
    after = in_opset(model(MEAN), None)
    assert (after.opset_import[0].version, after.ir_version) == (13, 7)


@pytest.mark.parametrize("opset", [13, 18])
def test_a_mean_over_other_axes_has_them_where_the_version_wants_them(opset: int) -> None:
    rows = helper.make_node("ReduceMean", ["images", "rows"], ["across"], keepdims=1)
    last = helper.make_node("MaxPool", ["across"], ["h"], kernel_shape=[1, 5])
    before = model(rows, last)
    after = in_opset(before, opset)
    assert kinds(after) == ["ReduceMean", "MaxPool", "Reshape"]
    np.testing.assert_allclose(computed(after)[0], computed(before)[0], atol=1e-6)


@pytest.mark.parametrize("opset", [11, 13, 14])
def test_hard_swish_is_written_out_where_there_is_none(opset: int) -> None:
    swish = helper.make_node("HardSwish", ["images"], ["s"], "swish")
    before = model(swish, helper.make_node("GlobalAveragePool", ["s"], ["h"]))
    after = in_opset(before, opset)
    assert ("HardSwish" in kinds(after)) == (opset == 14)
    np.testing.assert_allclose(computed(after)[0], computed(before)[0], atol=1e-6)


def test_what_a_version_lacks_is_refused_with_the_one_that_has_it() -> None:
    mish = helper.make_node("Mish", ["images"], ["m"])
    before = model(mish, helper.make_node("GlobalAveragePool", ["m"], ["h"]))
    with pytest.raises(UsageError, match=r"--opset 13 has no Mish as .*; --opset 18 has"):
        in_opset(before, 13)
    assert in_opset(before, 18).opset_import[0].version == 18


@pytest.mark.parametrize("opset", [10, 19])
def test_versions_that_are_not_written(opset: int) -> None:
    with pytest.raises(UsageError, match="from 11 to 18"):
        check_opset(opset)


def test_probabilities_come_first_and_logits_stay() -> None:
    after = with_probabilities(in_opset(model(MEAN), None))
    probabilities, logits = computed(after)
    assert [output.name for output in after.graph.output] == ["probabilities", "logits"]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, shares / shares.sum(1, keepdims=True), atol=1e-6)
