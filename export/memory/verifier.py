"""A second opinion on a memory plan, from another source and with other code.

`plan.py` infers shapes and walks the graph once. Here onnxruntime runs the graph with every
tensor as an output, so sizes are what it really allocated; lifetimes are a matrix of nodes by
pieces of memory, and every rule is checked on it:

- a tensor that shares memory with an earlier one takes over from it at its own node, not before the
  earlier one was read for the last time;
- nobody writes over a graph input, a constant or a result;
- the largest column sum is what the plan says.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from mobiletl.export.memory.plan import GraphPlan

Array = npt.NDArray[np.generic]

_VIEWS = ("Reshape", "Unsqueeze", "Squeeze", "Identity")
_OVERWRITES = ("Clip", "HardSigmoid", "Relu", "Sigmoid")
# Both of its choices are written down before they are put together.
_TWICE_MORE = ("Where",)


def verify_plan(model: onnx.ModelProto, plan: GraphPlan, batch: int, classes: int) -> None:
    """Raise AssertionError where the plan is wrong for N = `batch` and K = `classes`."""
    peak = int(_live_bytes(model, _real_sizes(model, batch, classes)).max())
    planned = plan.peak(batch, classes)
    assert peak == planned, (
        f"{model.graph.name}: the plan says {planned} bytes for batch {batch}, {classes} classes; "
        f"a run with all tensors kept says {peak}"
    )


def _real_sizes(model: onnx.ModelProto, batch: int, classes: int) -> dict[str, int]:
    """Bytes of every tensor that a node writes, as onnxruntime returns it."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    written = [name for node in model.graph.node for name in node.output]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in written)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(written, _example(model, {"N": batch, "K": classes}))
    return {name: int(value.nbytes) for name, value in zip(written, values, strict=True)}


def _example(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        shape = [sizes.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = np.ones(shape, dtype)
    return feeds


def _live_bytes(model: onnx.ModelProto, sizes: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """For every node, the bytes that are alive while it runs."""
    nodes = model.graph.node
    count = len(nodes)
    reads = {name: i for i, node in enumerate(nodes) for name in node.input}
    reads.update({value.name: count for value in model.graph.output})
    untouchable = {v.name for v in model.graph.input} | {t.name for t in model.graph.initializer}
    untouchable |= {value.name for value in model.graph.output}
    home: dict[str, int | None] = dict.fromkeys(untouchable)
    rows: list[npt.NDArray[np.bool_]] = []
    row_bytes: list[int] = []
    for index, node in enumerate(nodes):
        for name in node.output:
            target = _taken_over(
                node, index, home, rows, row_bytes, sizes[name], name in untouchable
            )
            if target is None and node.op_type in _VIEWS:
                home[name] = None
                continue
            if target is None and name.endswith(".next"):
                continue
            if target is None:
                target = len(rows)
                rows.append(np.zeros(count, bool))
                row_bytes.append(sizes[name])
            home[name] = target
            rows[target][index : reads.get(name, index) + 1] = True
            if node.op_type in _TWICE_MORE:
                rows.append(np.arange(count) == index)
                row_bytes.append(2 * sizes[name])
    return np.asarray(np.array(row_bytes) @ np.array(rows), np.int64)


def _taken_over(
    node: onnx.NodeProto,
    index: int,
    home: Mapping[str, int | None],
    rows: list[npt.NDArray[np.bool_]],
    row_bytes: list[int],
    size: int,
    is_result: bool,
) -> int | None:
    """The piece of memory that the node's output continues in, if any."""
    if node.op_type in _VIEWS:
        return home.get(node.input[0])
    if node.op_type not in _OVERWRITES or is_result:
        return None
    for name in node.input:
        row = home.get(name)
        if row is None or row_bytes[row] != size:
            continue
        needed_later = bool(rows[row][index + 1 :].any())
        if rows[row][index] and not needed_later:
            return row
    return None
