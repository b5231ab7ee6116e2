"""Changes to a graph that leave it a graph: other operators, attributes, shapes and names."""

from __future__ import annotations

import random
from typing import Any

from runtime_tests.attacks.mutations import odd_bytes

INTEGERS = (0, -1, 1, 2, 3, 7, 255, 4096, 65536, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
OPERATORS = (
    "Abs", "Add", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv",
    "ConvTranspose", "CumSum", "Div", "Einsum", "Expand", "Flatten", "Gather", "GatherND", "Gemm",
    "GlobalAveragePool", "GroupNormalization", "HardSigmoid", "InstanceNormalization",
    "LayerNormalization", "LogSoftmax", "MatMul", "MatMulInteger", "Max", "MaxPool", "Mod", "Mul",
    "NonZero", "OneHot", "Pad", "Pow", "Range", "ReduceMean", "ReduceSum", "Reshape", "Resize",
    "ScatterND", "Shape", "Slice", "Softmax", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK",
    "Transpose", "Unsqueeze", "Where", "Loop", "If", "Scan", "RandomNormal",
)  # fmt: skip


def odd_graph(content: bytes, draw: random.Random) -> bytes:
    """Return the ONNX model `content` with one to three changes."""
    import onnx

    try:
        model = onnx.load_from_string(content)
        for _ in range(draw.choice((1, 1, 2, 3))):
            _change(model, draw)
        return bytes(model.SerializeToString())
    except Exception:  # noqa: BLE001 - what protobuf itself does not take
        return odd_bytes(content, draw)


def _change(model: Any, draw: random.Random) -> None:
    nodes = model.graph.node
    node = draw.choice(nodes)
    kind = draw.randrange(9)
    names = [name for one in nodes for name in (*one.input, *one.output)]
    if kind == 0:
        node.op_type = draw.choice(OPERATORS)
    elif kind == 1 and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(names)
    elif kind == 2:
        del nodes[draw.randrange(len(nodes))]
    elif kind == 3:
        _change_shape(model, draw)
    elif kind == 4:
        _change_declared(model, draw)
    elif kind == 5:
        _change_numbers(model, draw)
    else:
        _change_attribute(node, draw)


def _change_attribute(node: Any, draw: random.Random) -> None:
    from onnx import helper

    named = draw.choice(
        ("strides", "group", "pads", "kernel_shape", "dilations", "axis", "perm", "keepdims", "to",
         "ceil_mode", "blocksize", "transB", "start", "end", "count_include_pad", "auto_pad")
    )  # fmt: skip
    if node.attribute and draw.random() < 0.6:
        chosen = draw.choice(node.attribute)
        named = chosen.name
        node.attribute.remove(chosen)
    several = named in ("strides", "pads", "kernel_shape", "dilations", "perm")
    count = draw.choice((0, 1, 2, 3, 4, 8)) if several else 1
    values = [draw.choice(INTEGERS) for _ in range(count)]
    if several and not values:
        return
    text = draw.choice(("VALID", "SAME_UPPER", "x" * 3000)) if named == "auto_pad" else None
    node.attribute.append(helper.make_attribute(named, text or (values if several else values[0])))


def _tensors(model: Any) -> list[Any]:
    held = [one.t for node in model.graph.node for one in node.attribute if one.HasField("t")]
    return [*model.graph.initializer, *held]


def _change_shape(model: Any, draw: random.Random) -> None:
    tensors = _tensors(model)
    if tensors:
        tensor = draw.choice(tensors)
        if tensor.dims and draw.random() < 0.7:
            tensor.dims[draw.randrange(len(tensor.dims))] = draw.choice(INTEGERS)
        else:
            tensor.data_type = draw.randrange(20)


def _change_numbers(model: Any, draw: random.Random) -> None:
    """Axes, shapes and sizes of a graph are numbers of such tensors."""
    tensors = [tensor for tensor in _tensors(model) if tensor.data_type == 7 and tensor.raw_data]
    if tensors:
        tensor = draw.choice(tensors)
        count = len(tensor.raw_data) // 8
        values = [draw.choice(INTEGERS) for _ in range(count)]
        tensor.raw_data = b"".join(value.to_bytes(8, "little", signed=True) for value in values)


def _change_declared(model: Any, draw: random.Random) -> None:
    value = draw.choice([*model.graph.input, *model.graph.output])
    declared = value.type.tensor_type
    if declared.shape.dim and draw.random() < 0.7:
        declared.shape.dim[draw.randrange(len(declared.shape.dim))].dim_value = draw.choice(
            INTEGERS
        )
    else:
        declared.elem_type = draw.randrange(20)
