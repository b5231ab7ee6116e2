"""Graphs that reach outside themselves, by the onnx library: one for each way to do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np


def _model(nodes: list[Any], initializers: list[Any], **more: Any) -> Any:
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    h = helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 6, 2, 2])
    graph = helper.make_graph(nodes, "features", [images], [h], initializers)
    opsets = [helper.make_opsetid("", 18), *more.pop("opsets", [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def _pooled(kernel: str = "kernel") -> list[Any]:
    from onnx import helper

    pool = {"kernel_shape": [4, 4], "strides": [4, 4]}
    return [
        helper.make_node("AveragePool", ["images"], ["pooled"], **pool),
        helper.make_node("Conv", ["pooled", kernel], ["h"]),
    ]


def _external(name: str, location: str) -> Any:
    """A kernel f32[6,3,1,1] whose numbers lie in `location`."""
    from onnx import TensorProto

    tensor = TensorProto(name=name, dims=[6, 3, 1, 1], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "72")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _kernel() -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ones((6, 3, 1, 1), np.float32), "kernel")


def initializer(location: str) -> Any:
    return _model(_pooled(), [_external("kernel", location)])


def without_location(location: str) -> Any:
    """The keys alone; some readers look at nothing else."""
    tensor = _external("kernel", location)
    tensor.data_location = 0
    return _model(_pooled(), [tensor])


def attribute(location: str) -> Any:
    from onnx import helper

    constant = helper.make_node("Constant", [], ["kernel"], value=_external("", location))
    return _model([constant, *_pooled()], [])


def subgraph(location: str) -> Any:
    """Behind a condition that always holds."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [6, 3, 1, 1])
    body = helper.make_graph([], "body", [], [value], [_external("inner", location)])
    condition = numpy_helper.from_array(np.array(True), "condition")
    choice = helper.make_node("If", ["condition"], ["kernel"], then_branch=body, else_branch=body)
    return _model([choice, *_pooled()], [condition])


def scan(location: str) -> Any:
    """Inside the one operator that may hold a graph."""
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    node = helper.make_node("Identity", ["inner"], ["out"])
    body = helper.make_graph(
        [node], "body", [value("row")], [value("out")], [_external("inner", location)]
    )
    every = helper.make_node("Scan", ["images"], ["kernels"], body=body, num_scan_inputs=1)
    return _model([every, *_pooled()], [_kernel()])


def function(location: str) -> Any:
    from onnx import helper

    constant = helper.make_node("Constant", [], ["out"], value=_external("", location))
    opset = helper.make_opsetid("", 18)
    made = helper.make_function("mine", "Kernel", [], ["out"], [constant], [opset])
    call = helper.make_node("Kernel", [], ["kernel"], domain="mine")
    own = [helper.make_opsetid("mine", 1)]
    return _model([call, *_pooled()], [], functions=[made], opsets=own)


def sparse(location: str) -> Any:
    from onnx import TensorProto

    model = _model(_pooled(), [])
    added = model.graph.sparse_initializer.add(dims=[6, 3, 1, 1])
    added.values.CopyFrom(_external("kernel", location))
    added.values.dims[:] = [18]
    added.indices.CopyFrom(TensorProto(dims=[18], data_type=TensorProto.INT64))
    added.indices.int64_data[:] = range(18)
    return model


def training(location: str) -> Any:
    model = _model(_pooled(), [_kernel()])
    model.training_info.add().initialization.initializer.append(_external("more", location))
    return model


WAYS: dict[str, Callable[[str], Any]] = {
    one.__name__: one
    for one in (
        initializer,
        without_location,
        attribute,
        subgraph,
        scan,
        function,
        sparse,
        training,
    )
}


def write_reaching(bundle: Path, way: str, location: str) -> None:
    """Put such a graph in the place of a tiny bundle's features; its manifest is not put right."""
    (bundle / "onnxruntime" / "features.onnx").write_bytes(WAYS[way](location).SerializeToString())
