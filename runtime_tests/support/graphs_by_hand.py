"""Graphs small enough to add up their memory by hand.

Letters: N pictures, K classes. x is f32 [N,4], 16 N bytes.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = list[int | str]
X: dict[str, Shape] = {"x": ["N", 4]}


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def copy(source: str, output: str) -> onnx.NodeProto:
    """A node that allocates as much as it reads."""
    return node("Transpose", source, output, perm=[0, 1])


def model(
    nodes: list[onnx.NodeProto],
    outputs: dict[str, Shape],
    inputs: dict[str, Shape] | None = None,
    **constants: np.ndarray,
) -> onnx.ModelProto:
    def values(shapes: dict[str, Shape]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]

    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "hand", values(inputs or X), values(outputs), weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


SQUARE: dict[str, Shape] = {"out": ["N", 4]}
DOUBLE: dict[str, Shape] = {"out": ["N", 8]}
SHAPE = np.array([-1, 2, 2])
BACK = np.array([-1, 4])
CASES = {
    # a and b, then b and out: the one that is read and the one that is written overlap.
    "touching lifetimes": (model([copy("x", "a"), copy("a", "b"), copy("b", "out")], SQUARE), 32),
    # a, b and the 32 N of out.
    "equal lifetimes": (
        model([copy("x", "a"), copy("x", "b"), node("Concat", "a b", "out", axis=1)], DOUBLE),
        64,
    ),
    # a lives from the first node to the last, b and c inside of it.
    "nested lifetimes": (
        model(
            [copy("x", "a"), copy("x", "b"), copy("b", "c"), node("Concat", "a c", "out", axis=1)],
            DOUBLE,
        ),
        64,
    ),
    # unread is freed after its own node; a + out is the peak, not unread + a + out.
    "never read": (model([copy("x", "unread"), copy("x", "a"), copy("a", "out")], SQUARE), 32),
    # Alive at its own node all the same: a + unread.
    "never read at the peak": (
        model(
            [copy("x", "a"), copy("a", "unread"), node("ReduceSum", "a", "out", keepdims=0)],
            {"out": []},
        ),
        32,
    ),
    # r and s are a by other names; a may not be freed before out has read s.
    "alias chain": (
        model(
            [
                copy("x", "a"),
                node("Reshape", "a shape", "r"),
                node("Reshape", "r back", "s"),
                copy("x", "b"),
                node("Concat", "s b", "out", axis=1),
            ],
            DOUBLE,
            shape=SHAPE,
            back=BACK,
        ),
        64,
    ),
    # An alias of an input needs nothing; out is all there is.
    "alias of an input": (
        model([node("Reshape", "x back", "r"), copy("r", "out")], SQUARE, back=BACK),
        16,
    ),
    # b and c are written over a.
    "in place": (
        model(
            [copy("x", "a"), node("Relu", "a", "b"), node("Sigmoid", "b", "c"), copy("c", "out")],
            SQUARE,
        ),
        32,
    ),
    # a is read once more, so b needs memory of its own.
    "in place but read later": (
        model(
            [copy("x", "a"), node("Relu", "a", "b"), node("Concat", "a b", "out", axis=1)], DOUBLE
        ),
        64,
    ),
    # An input belongs to the caller: b is new, c is written over b.
    "in place but an input": (
        model([node("Relu", "x", "b"), node("Relu", "b", "c"), copy("c", "out")], SQUARE),
        32,
    ),
    # A result is new memory, too.
    "in place but a result": (model([copy("x", "a"), node("Relu", "a", "out")], SQUARE), 32),
    # Sums and products are new memory while both operands live: a + b + c.
    "a sum is not in place": (
        model(
            [copy("x", "a"), copy("x", "b"), node("Add", "a b", "c"), copy("c", "out")],
            SQUARE,
        ),
        48,
    ),
    # In place over an alias: the memory is a's.
    "in place over an alias": (
        model(
            [
                copy("x", "a"),
                node("Reshape", "a shape", "r"),
                node("Relu", "r", "n"),
                node("Reshape", "n back", "s"),
                copy("s", "out"),
            ],
            SQUARE,
            shape=SHAPE,
            back=BACK,
        ),
        32,
    ),
    # While w is put together, both of what it is put together from lie beside it: m + 3 w.
    "a choice takes both": (
        model(
            [
                node("Cast", "x", "m", to=TensorProto.BOOL),
                node("Where", "m x x", "w"),
                copy("w", "out"),
            ],
            SQUARE,
        ),
        52,
    ),
}
