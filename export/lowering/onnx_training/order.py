"""An order that survives a runtime which keeps none.

onnxruntime-training's `Module` optimises the graph it is given and runs nodes backwards from the
outputs, depth first, unless its user passes session options. The order of the file
(export/memory/execution_order.py) is lost then. Edges are kept, so the order that saves memory is
written as edges:

- **packed first**: the only reader of a mask, or of bytes, is in the backward pass, and run
  backwards it would be packed just before that, with the float map alive until then. Here the
  forward pass reads the map through a reshape whose target is computed from the packed tensor's
  shape (all zeros, which means "as it is"): nothing is copied, and the packed form exists before
  the map is used up.
- **separate equal products**: kernels are scaled once in each direction so that no scaled kernel
  lives through the step (export/passes/rematerialise.py). Merging equal nodes would undo that; a
  product with its factors swapped is another node and the same number.

The third, gradients one after the other, is in `model.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnxscript import ir

# What `_pack_mask` (../onnx/rules/one_bit.py) makes of a mask, and nothing else does.
PACKS = "MatMulInteger"
# What `_pack_bytes` (../onnx/rules/eight_bits.py) makes of a map; of a vector, its zeros.
PACKS_BYTES = "QuantizeLinear"
MAP_RANK = 4
RANGES = ("ReduceMax", "ReduceMin")


def packed_first(model: ir.Model) -> int:
    """Let whatever else reads a packed map wait for its mask or its bytes; returns how many of both
    there are.
    """
    count = 0
    found = [*_masks(model.graph), *_bytes(model.graph)]
    for count, (a, computes, packed) in enumerate(found, start=1):
        readers = [(node, index) for node, index in a.uses() if node not in computes]
        waited = _wait(model.graph, a, packed, f"after_packing_{count}")
        for node, index in readers:
            node.replace_input_with(index, waited)
    model.graph.sort()
    return count


def separate_equal_products(model: ir.Model) -> int:
    """Swap the factors of every second of two equal products; returns how many were swapped."""
    seen: set[tuple[int, ...]] = set()
    count = 0
    for node in model.graph:
        factors = tuple(id(value) for value in node.inputs)
        if node.op_type != "Mul":
            continue
        if factors in seen:
            left, right = node.inputs
            node.replace_input_with(0, right)
            node.replace_input_with(1, left)
            count += 1
        seen.add(factors)
    return count


def _masks(graph: ir.Graph) -> Iterator[tuple[ir.Value, frozenset[ir.Node], ir.Value]]:
    """(the map, what reads it to compute its mask, the packed mask), from below."""
    for node in [node for node in graph if node.op_type == PACKS]:
        compares = _source(_source(_source(node, 1), 0), 0)
        assert compares.op_type == "GreaterOrEqual", compares
        a, computes = _masked(compares)
        yield a, computes, _reader(_reader(node)).outputs[0]


def _bytes(graph: ir.Graph) -> Iterator[tuple[ir.Value, frozenset[ir.Node], ir.Value]]:
    """The same of maps that are packed into bytes."""
    for node in [node for node in graph if node.op_type == PACKS_BYTES]:
        x = node.inputs[0]
        assert x is not None
        if x.shape is not None and len(x.shape) == MAP_RANK:
            ranges = {reader for reader, _ in x.uses() if reader.op_type in RANGES}
            yield x, frozenset({node, *ranges}), node.outputs[0]


def _masked(compares: ir.Node) -> tuple[ir.Value, frozenset[ir.Node]]:
    """What is compared with 0: a map, or min(a, 6 - a) of one (`ExactReLU6`)."""
    a = compares.inputs[0]
    assert a is not None
    smaller = a.producer()
    if smaller is None or smaller.op_type != "Min":
        return a, frozenset({compares})
    inner = smaller.inputs[0]
    assert inner is not None
    return inner, frozenset({smaller, _source(smaller, 1)})


def _wait(graph: ir.Graph, a: ir.Value, packed: ir.Value, name: str) -> ir.Value:
    """`a`, not to be had before `packed`."""
    assert a.shape is not None
    zeros = ir.Value(
        name=f"{name}.zeros",
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape([len(a.shape)]),
        const_value=ir.tensor(np.zeros(len(a.shape), np.int64), name=f"{name}.zeros"),
    )
    graph.register_initializer(zeros)
    size = ir.node("Shape", [packed], name=f"{name}.size")
    target = ir.node("Mul", [size.outputs[0], zeros], name=f"{name}.target")
    same = ir.node("Reshape", [a, target.outputs[0]], name=name)
    for node in (size, target, same):
        node.outputs[0].name = node.name
    same.outputs[0].type = a.type
    same.outputs[0].shape = a.shape
    writer = packed.producer()
    assert writer is not None
    graph.insert_after(writer, [size, target, same])
    return same.outputs[0]


def _source(node: ir.Node, index: int) -> ir.Node:
    value = node.inputs[index]
    producer = value.producer() if value is not None else None
    assert producer is not None, f"{node.name} reads an input of the graph"
    return producer


def _reader(node: ir.Node) -> ir.Node:
    (reader,) = node.outputs[0].consumers()
    return reader
