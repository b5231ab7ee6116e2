"""A finished ONNX graph in an older version of the operators, and with probabilities as output.

Most programs read a version that is some years old. What older ones say otherwise of our operators:

| operator | in versions before | written instead |
|---|---|---|
| `ReduceMean` over the map | 18, and in all others | `GlobalAveragePool` |
| other `ReduceMean` | 18 | `ReduceMean` with its axes as an attribute |
| `HardSwish` | 14 | x * `HardSigmoid`(x) |
| `BatchNormalization` | 14 | the same without the word that it does not train |

`GlobalAveragePool` is also what OpenCV 4.8 computes right: it reads `ReduceMean` with axes as an
input as a mean over other axes, and of 80 pictures of a trained network 37 got another label.
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from mobiletl.device.errors import UsageError

LEAST, DEFAULT, MOST = 11, 13, 18
# Later versions of these take more types, or attributes that we leave alone, and compute the same.
_SAME = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Sqrt", "Pow", "Relu", "Clip", "Sigmoid", "HardSigmoid"),
        *("Reshape", "Flatten", "Identity", "Concat", "Gemm", "MatMul", "Transpose", "Cast", "Max"),
        *("QuantizeLinear", "DequantizeLinear", "GlobalAveragePool", "AveragePool", "BitwiseAnd"),
        *("Softmax", "Pad", "Resize", "Expand", "Constant", "BatchNormalization"),
    }
)
# What later versions of these have changed matters: they go no further down than this.
_NEEDS = {"DequantizeLinear": 13, "QuantizeLinear": 13, "Resize": 13, "Pad": 13}
_MAP_AXES = ([2, 3], [-2, -1])
PROBABILITIES = "probabilities"


def check_opset(opset: int | None) -> None:
    """Raises UsageError for a version that is not written."""
    if opset is not None and not LEAST <= opset <= MOST:
        raise UsageError(f"--opset {opset}: expected a number from {LEAST} to {MOST}")


def in_opset(model: onnx.ModelProto, opset: int | None) -> onnx.ModelProto:
    """`model` with operators of version `opset`; None is `DEFAULT`, or later where that is needed.

    Raises UsageError where an operator needs a later one.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    needed = max((_NEEDS.get(node.op_type, LEAST) for node in model.graph.node), default=LEAST)
    wanted = max(DEFAULT, needed) if opset is None else opset
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += _in_version(node, model, wanted)
    for node in nodes:
        _check(node, wanted)
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    _drop_unread(found.graph)
    others = {node.domain for node in nodes} - {"", "ai.onnx"}
    imports = [entry for entry in model.opset_import if entry.domain in others]
    del found.opset_import[:]
    found.opset_import.extend([helper.make_opsetid("", wanted), *imports])
    # Newer readers take older files, and not the other way round.
    found.ir_version = helper.find_min_ir_version_for([helper.make_opsetid("", wanted)])
    onnx.checker.check_model(found, full_check=True)
    return found


def with_probabilities(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the softmax of `logits` as its first output, before those that it has."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    outputs = [onnx.ValueInfoProto.FromString(o.SerializeToString()) for o in model.graph.output]
    logits = next(output for output in outputs if output.name == "logits")
    first = onnx.ValueInfoProto.FromString(logits.SerializeToString())
    first.name = PROBABILITIES
    found.graph.node.append(
        helper.make_node("Softmax", ["logits"], [PROBABILITIES], PROBABILITIES, axis=1)
    )
    del found.graph.output[:]
    found.graph.output.extend([first, *outputs])
    onnx.checker.check_model(found, full_check=True)
    return found


def _in_version(node: onnx.NodeProto, model: onnx.ModelProto, opset: int) -> list[onnx.NodeProto]:
    """The node as it is, or what says the same in that version."""
    if node.op_type == "ReduceMean":
        return _mean(node, model, opset)
    if node.op_type == "BatchNormalization" and opset < 14:
        return [_inferring(node)]
    if node.op_type == "HardSwish" and opset < 14:
        (values,), (result,) = node.input, node.output
        gate = f"{result}_gate"
        return [
            helper.make_node("HardSigmoid", [values], [gate], gate, alpha=1 / 6, beta=0.5),
            helper.make_node("Mul", [values, gate], [result], node.name),
        ]
    return [node]


def _inferring(node: onnx.NodeProto) -> onnx.NodeProto:
    found = onnx.NodeProto()
    found.CopyFrom(node)
    words = {a.name: a for a in found.attribute}
    if "training_mode" in words and words["training_mode"].i == 0:
        found.attribute.remove(words["training_mode"])
    return found


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors that are the same for every picture, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _mean(node: onnx.NodeProto, model: onnx.ModelProto, opset: int) -> list[onnx.NodeProto]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axes = attributes.get("axes")
    if axes is None and len(node.input) > 1:
        constants = _constants(model.graph)
        if node.input[1] not in constants:
            return [node]
        axes = numpy_helper.to_array(constants[node.input[1]]).reshape(-1).tolist()
    keepdims = attributes.get("keepdims", 1)
    if sorted(axes or []) in _MAP_AXES:
        pooled = [node.output[0] if keepdims else f"{node.output[0]}_pooled"]
        pool = helper.make_node("GlobalAveragePool", node.input[:1], pooled, node.name)
        flat = helper.make_node("Flatten", pooled, node.output, f"{node.name}_flat", axis=1)
        return [pool] if keepdims else [pool, flat]
    if opset >= 18 or axes is None:
        return [node]
    return [
        helper.make_node(
            "ReduceMean", node.input[:1], node.output, node.name, axes=axes, keepdims=keepdims
        )
    ]


def _check(node: onnx.NodeProto, opset: int) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type == "ReduceMean":
        return
    try:
        there = onnx.defs.get_schema(node.op_type, opset).since_version
    except onnx.defs.SchemaError:
        there = 0
    written = onnx.defs.get_schema(node.op_type, MOST).since_version
    same = there == written or (there and node.op_type in _SAME)
    if not same or opset < _NEEDS.get(node.op_type, LEAST):
        least = max(written, _NEEDS.get(node.op_type, LEAST))
        raise UsageError(
            f"--opset {opset} has no {node.op_type} as this network needs it; "
            f"--opset {least} has, or leave it out"
        )


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the constants that no node reads any more, such as axes."""
    read = {name for node in graph.node for name in node.input}
    read |= {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
