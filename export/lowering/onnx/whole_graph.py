"""The frozen prefix put in front of a graph that starts at the feature map.

Pictures pass the prefix one after the other, in a `Scan`: a batch of 8 would hold 77 MB of
activations there, against 17 in the step that follows (MobileNetV2, 224 px). A network that is
trained whole has no prefix, and its graph takes the pictures as they are.
"""

from __future__ import annotations

import numpy as np
from onnxscript import ir

from mobiletl.core.transfer import Transfer
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.tracing.functions import trace_features

# The official samples' name of the pictures.
PICTURES = "input"


def prepend_prefix(model: ir.Model, transfer: Transfer, resolution: int) -> None:
    """Replace the input h [N,C,h,w] of `model` by pictures [N,3,R,R], in place."""
    graph = model.graph
    (h,) = (value for value in graph.inputs if value.name == "h")
    pictures = ir.Value(
        name=PICTURES,
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape(["N", 3, resolution, resolution]),
    )
    graph.inputs[:] = [pictures if value is h else value for value in graph.inputs]
    if not len(transfer.prefix):
        _read_instead(h, pictures)
        return
    scan = ir.node(
        "Scan",
        [pictures],
        {"body": _one_picture(transfer, resolution), "num_scan_inputs": 1},
        name="frozen",
    )
    (maps,) = scan.outputs
    maps.name, maps.type, maps.shape = "frozen.h", h.type, h.shape
    _read_instead(h, maps)
    graph.insert_before(graph[0], scan)


def _read_instead(before: ir.Value, after: ir.Value) -> None:
    for node, index in list(before.uses()):
        node.replace_input_with(index, after)


def _one_picture(transfer: Transfer, resolution: int) -> ir.Graph:
    """picture [3,R,R] -> h [C,h,w]."""
    body = lower_to_onnx(trace_features(transfer, resolution, batch=1), "frozen").graph
    for value in [*body.inputs, *body.initializers.values(), *_written(body)]:
        value.name = f"frozen.one.{value.name}"  # apart from the names of the outer graph
    (images,), (h,) = body.inputs, body.outputs
    axis = ir.Value(
        name="frozen.axis",
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape([1]),
        const_value=ir.tensor(np.array([0]), name="frozen.axis"),
    )
    body.register_initializer(axis)
    assert h.shape is not None
    picture = _like(images, "frozen.picture", [3, resolution, resolution])
    widen = ir.node("Unsqueeze", [picture, axis], outputs=[_like(images, "frozen.batch")])
    narrow = ir.node("Squeeze", [h, axis], outputs=[_like(h, "frozen.map", list(h.shape)[1:])])
    _read_instead(images, widen.outputs[0])
    body.insert_before(body[0], widen)
    body.append(narrow)
    body.inputs[:] = [picture]
    body.outputs[:] = [narrow.outputs[0]]
    return body


def _written(graph: ir.Graph) -> list[ir.Value]:
    return [value for node in graph for value in node.outputs]


def _like(value: ir.Value, name: str, shape: list[int | ir.SymbolicDim] | None = None) -> ir.Value:
    return ir.Value(name=name, type=value.type, shape=ir.Shape(shape) if shape else value.shape)
