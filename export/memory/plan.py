"""Peak of live tensors while a graph runs in file order, as a formula in N and K.

Letters: N pictures in a batch, K classes. Bytes throughout. What is counted: every tensor the
runtime allocates during the run. What is not: graph inputs, constants, and `<entry>.next`, which
the caller binds to memory it has (docs/bundle.md).

Where onnxruntime puts the output of a node is in `operators.py`. A tensor is freed after the node
that reads it last: it is alive from its node to its last reader, both ends included. An operator
without a row is an error, never zero bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import sympy
from onnx import numpy_helper, shape_inference

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.operators import ONNX_BY_NAME, Storage
from mobiletl.export.tracing.functions import NEXT

# Where sizes are read off to find their formula, and where the formula is checked.
_GRID = ((2, 3), (5, 3), (2, 7), (5, 7))
_CHECK = (11, 13)
# SymPy has an N of its own.
_SYMBOLS = {name: sympy.Symbol(name) for name in ("N", "K")}


@dataclass(frozen=True)
class Bytes:
    """fixed + per_picture N + per_class K + per_both N K."""

    fixed: int = 0
    per_picture: int = 0
    per_class: int = 0
    per_both: int = 0

    def at(self, batch: int, classes: int) -> int:
        """The number of bytes for N = `batch` and K = `classes`."""
        return (
            self.fixed
            + self.per_picture * batch
            + self.per_class * classes
            + self.per_both * batch * classes
        )

    def terms(self) -> tuple[int, int, int, int]:
        """(fixed, per_picture, per_class, per_both)."""
        return (self.fixed, self.per_picture, self.per_class, self.per_both)

    def plus(self, other: Bytes) -> Bytes:
        """The sum."""
        return Bytes(*(a + b for a, b in zip(self.terms(), other.terms(), strict=True)))

    def negative(self) -> Bytes:
        """What takes it away from a sum."""
        return Bytes(*(-term for term in self.terms()))

    def covers(self, other: Bytes) -> bool:
        """Whether no term of `other` is larger: then it is never larger for any N and K."""
        return all(a >= b for a, b in zip(self.terms(), other.terms(), strict=True))


@dataclass(frozen=True)
class GraphPlan:
    """`moments` are the sums of live bytes that can be the peak for some N and K. `holes` are
    those of region.py.
    """

    weights: int
    moments: tuple[Bytes, ...]
    holes: tuple[tuple[int, float], ...] = ()

    def peak(self, batch: int, classes: int) -> int:
        """The largest sum of live tensors, in bytes."""
        return max(moment.at(batch, classes) for moment in self.moments)


def plan_graph(model: onnx.ModelProto) -> GraphPlan:
    """Plan a model with dynamic dimensions N and K; raises UnsupportedModel for an unknown operator
    or a size that is no formula in N and K.
    """
    sizes = tensor_bytes(model)
    weights = sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    return GraphPlan(weights, pareto(_moments(model.graph, sizes)))


def plan_chain(models: Sequence[onnx.ModelProto], plans: Sequence[GraphPlan]) -> GraphPlan:
    """Plan graphs that run one behind the other, from the plan of each; raises UnsupportedModel.

    What one gives is an input of the next, and its caller holds it meanwhile.
    """
    moments = list(plans[0].moments)
    for before, plan in zip(models, plans[1:], strict=False):
        held = tensor_bytes(before)[before.graph.output[0].name]
        moments += [moment.plus(held) for moment in plan.moments]
    # A part that takes little may have large holes; the largest share is on the safe side.
    shares = zip(*(plan.holes for plan in plans), strict=True)
    holes = tuple((of[0][0], max(share for _, share in of)) for of in shares)
    return GraphPlan(sum(plan.weights for plan in plans), pareto(moments), holes)


def formula(size: Callable[[int, int], int]) -> Bytes:
    """What `size(N, K)` is for every N and K, from its values at some; raises UnsupportedModel if
    it has no such form.
    """
    found = _solve([size(*point) for point in _GRID])
    if found.at(*_CHECK) != size(*_CHECK):
        raise UnsupportedModel("a tensor's size is no formula in N and K; it can't be planned")
    return found


def tensor_bytes(model: onnx.ModelProto) -> dict[str, Bytes]:
    """The bytes of every tensor that a node writes."""
    at = {point: _bytes_at(model, *point) for point in (*_GRID, _CHECK)}
    sizes = {}
    for name in at[_CHECK]:
        size = _solve([at[point][name] for point in _GRID])
        if size.at(*_CHECK) != at[_CHECK][name]:
            raise UnsupportedModel(
                f"the size of tensor {name} is no formula in N and K; this graph can't be planned"
            )
        sizes[name] = size
    return sizes


def _solve(values: Sequence[int]) -> Bytes:
    """The formula through the four points of the grid."""
    design = [[1, n, k, n * k] for n, k in _GRID]
    terms = np.linalg.solve(np.array(design, float), np.array(values, float))
    return Bytes(*(round(term) for term in terms))


def _bytes_at(model: onnx.ModelProto, batch: int, classes: int) -> dict[str, int]:
    """Bytes of every tensor that a node writes, for one N and K, by ONNX shape inference."""
    concrete = onnx.ModelProto()
    concrete.CopyFrom(model)
    values = {"N": batch, "K": classes}
    own = {name for node in model.graph.node if node.domain for name in node.output}
    stated = [value for value in model.graph.value_info if value.name in own]
    del concrete.graph.value_info[:]
    concrete.graph.value_info.extend(_with_sizes(value, values) for value in stated)
    for value in (*concrete.graph.input, *concrete.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = values[dim.dim_param]
    inferred = shape_inference.infer_shapes(concrete, strict_mode=True, data_prop=True)
    shapes = {
        v.name: v.type.tensor_type for v in (*inferred.graph.value_info, *inferred.graph.output)
    }
    written = (name for node in model.graph.node for name in node.output if name)
    return {name: _nbytes(name, shapes) for name in written}


def _with_sizes(value: onnx.ValueInfoProto, values: Mapping[str, int]) -> onnx.ValueInfoProto:
    """`value` with numbers for its sizes: shape inference knows no operators of onnxruntime's own,
    so what the exporter wrote is taken.
    """
    sized = onnx.ValueInfoProto()
    sized.CopyFrom(value)
    for dim in sized.type.tensor_type.shape.dim:
        if dim.dim_param:
            dim.dim_value = int(sympy.sympify(dim.dim_param, locals=_SYMBOLS).subs(values))
    return sized


def _nbytes(name: str, shapes: Mapping[str, onnx.TypeProto.Tensor]) -> int:
    known = shapes.get(name)
    if known is None or not all(dim.HasField("dim_value") for dim in known.shape.dim):
        raise UnsupportedModel(
            f"the shape of tensor {name} is not known; this graph can't be planned"
        )
    elements = int(np.prod([dim.dim_value for dim in known.shape.dim], dtype=np.int64))
    return elements * onnx.helper.tensor_dtype_to_np_dtype(known.elem_type).itemsize


class _Liveness:
    """Which tensors share memory, and for how long each piece of memory is needed."""

    def __init__(self, graph: onnx.GraphProto, sizes: Mapping[str, Bytes]) -> None:
        self.sizes = sizes
        self.resident = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        self.outputs = {v.name for v in graph.output}
        self.bound = {name for name in self.outputs if name.endswith(NEXT)}
        self.memory: dict[str, str] = {name: name for name in self.resident}
        self.last_read: dict[str, int] = {}
        for index, node in enumerate(graph.node):
            for name in node.input:
                self.last_read[name] = index
        self.free_at: dict[str, int] = {}
        for index, node in enumerate(graph.node):
            self._assign(index, node)

    def _assign(self, index: int, node: onnx.NodeProto) -> None:
        shared = self._shared_input(index, node)
        for position, name in enumerate(node.output):
            reuse = shared if position == 0 else None
            memory = self.memory[reuse] if reuse is not None else name
            self.memory[name] = memory
            end = self.last_read.get(name, index)
            if name in self.outputs:
                end = len(self.last_read) + index  # beyond every node
            self.free_at[memory] = max(end, self.free_at.get(memory, end))

    def _shared_input(self, index: int, node: onnx.NodeProto) -> str | None:
        """The input whose memory the first output takes over, if any."""
        (first, *_) = node.output
        row = ONNX_BY_NAME.get(node.op_type)
        if row is None:
            raise UnsupportedModel(
                f"the memory plan does not know operator {node.op_type} (node {node.name}); "
                "give it a row in export/operators.py"
            )
        if row.storage is Storage.ALIASES:
            return str(node.input[0])
        if row.storage is Storage.ALLOCATES or first in self.outputs:
            return None
        for name in node.input:
            memory = self.memory.get(name)
            if (
                memory is not None
                and memory not in self.resident
                and memory not in self.bound
                and self.free_at.get(memory) == index
                and self.sizes[memory] == self.sizes[first]
            ):
                return str(name)
        return None


@dataclass(frozen=True)
class Turn:
    """What a node allocates and what is free when it has run, by name. `scratch` are the tensors
    as large as which it takes a piece of memory while it runs.
    """

    allocated: tuple[str, ...]
    scratch: tuple[str, ...]
    freed: tuple[str, ...]


def turns(graph: onnx.GraphProto, sizes: Mapping[str, Bytes]) -> Iterable[Turn]:
    """What happens to memory, node by node."""
    liveness = _Liveness(graph, sizes)
    ends: dict[int, list[str]] = {}
    for memory, end in liveness.free_at.items():
        ends.setdefault(end, []).append(memory)
    allocated: set[str] = set()
    for index, node in enumerate(graph.node):
        new = (name for name in node.output if liveness.memory[name] == name)
        own = [name for name in new if name not in liveness.bound]
        allocated.update(own)
        scratch = (node.output[0],) * ONNX_BY_NAME[node.op_type].scratch
        freed = (memory for memory in ends.get(index, ()) if memory in allocated)
        yield Turn(tuple(own), scratch, tuple(freed))


def _moments(graph: onnx.GraphProto, sizes: Mapping[str, Bytes]) -> Iterable[Bytes]:
    """The sum of live memory during every node."""
    live = Bytes()
    for turn in turns(graph, sizes):
        for name in turn.allocated:
            live = live.plus(sizes[name])
        moment = live
        for name in turn.scratch:
            moment = moment.plus(sizes[name])
        yield moment
        for name in turn.freed:
            live = live.plus(sizes[name].negative())


def pareto(moments: Iterable[Bytes]) -> tuple[Bytes, ...]:
    """`moments` without those that another one covers."""
    kept: list[Bytes] = []
    for moment in sorted(set(moments), key=Bytes.terms, reverse=True):
        if not any(other.covers(moment) for other in kept):
            kept = [other for other in kept if not moment.covers(other)]
            kept.append(moment)
    return tuple(kept)
