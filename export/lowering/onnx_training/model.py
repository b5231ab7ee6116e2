"""`training_model.onnx`: forward, loss and gradients for onnxruntime-training's `Module`.

The graph is the bundle's own traced step, with an optimizer that hands the gradients out. What
`Module` (release 1.19.2) expects, by names alone:

- inputs that the checkpoint has as parameters, and a buffer `<parameter>_grad.accumulation.buffer`
  for every trained one; a boolean `lazy_reset_grad`; all other inputs are the user's, in order;
- an `InPlaceAccumulatorV2` (com.microsoft) per trained parameter, which adds the gradient to the
  buffer or, where its third input is true, stores it; its output, a flag, is called
  `<parameter>_grad.accumulation.out` and hidden from the user.

A trained norm's statistics are parameters that need no gradient. The same operator, told to store,
writes the new statistic over the old one: `Module` shares that memory with its evaluation model and
its checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnxscript import ir
from torch import Tensor

from mobiletl.core.optimizers import Optimizer
from mobiletl.core.step import TrainingStep
from mobiletl.export.lowering.onnx.builder import MICROSOFT
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.lowering.onnx_training.order import packed_first, separate_equal_products
from mobiletl.export.memory.execution_order import reorder
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.tracing.functions import NEXT, Shape, trace_train_step

BUFFER = "_grad.accumulation.buffer"
FLAG = "_grad.accumulation.out"
RESET = "lazy_reset_grad"
RESULTS = ("loss", "correct")


@dataclass(frozen=True)
class HandOut(Optimizer):
    """No update rule: the step returns each gradient where the new parameter is expected."""

    name = "none"
    slots = ()
    scalars = ()
    weight_decay = 0.0
    default_lr = 0.0

    def prepare(
        self, scalars: tuple[Tensor, ...], lr: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (), ()

    def update(
        self,
        parameter: Tensor,
        gradient: Tensor,
        slots: tuple[Tensor, ...],
        factors: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        return gradient, ()


def training_model(step: TrainingStep, feature_shape: Shape) -> ir.Model:
    """(h [N,C,h,w], labels [N]) -> (loss, correct), any N and K; gradients go to their buffers."""
    gradients = TrainingStep(step.top, HandOut())
    traced = run_passes(trace_train_step(gradients, feature_shape), "onnxruntime-training")
    model = lower_to_onnx(traced, "training_model")
    packed_first(model)
    reorder(model)
    separate_equal_products(model)
    statistics = frozenset(gradients.named("statistic"))
    _Accumulators(model.graph, statistics).write([e.name for e in gradients.entries])
    model.opset_imports[MICROSOFT] = 1
    _forget_shapes(model.graph)
    return model


class _Accumulators:
    """Puts an accumulator behind every gradient and statistic, and rewrites the interface.

    Each takes the flag of the one before it: `Module` runs nodes backwards from the outputs, in no
    order of ours, and would otherwise compute all gradients before it stores the first. A flag is
    always true, so `and` leaves `lazy_reset_grad` what it is.
    """

    def __init__(self, graph: ir.Graph, statistics: frozenset[str]) -> None:
        self._graph = graph
        self._statistics = statistics
        self._inputs = {str(value.name): value for value in graph.inputs}
        self._reset = _flag(RESET)
        self._true = _flag("true")
        self._true.const_value = ir.tensor(np.array([True]), name="true")
        self._buffers: dict[str, ir.Value] = {}
        self._flags: dict[str, ir.Value] = {}

    def write(self, entries: list[str]) -> None:
        """`entries` are the parameters and statistics, in the order of the interface."""
        outputs = {str(value.name): value for value in self._graph.outputs}
        place = {node: index for index, node in enumerate(self._graph)}
        results = {name: outputs[name + NEXT] for name in entries}
        previous = self._true
        for name in sorted(entries, key=lambda entry: place[_producer(results[entry])]):
            previous = self._accumulate(name, results[name], previous)
        self._graph.register_initializer(self._true)
        self._graph.inputs[:] = [
            *(self._inputs[name] for name in ("h", "labels", *entries)),
            *(self._buffers[name] for name in entries if name in self._buffers),
            self._reset,
        ]
        self._graph.outputs[:] = [
            *(outputs[name] for name in RESULTS),
            *(self._flags[name] for name in entries),
        ]

    def _accumulate(self, name: str, result: ir.Value, previous: ir.Value) -> ir.Value:
        after = _producer(result)
        if name in self._statistics:
            result.name = f"{name}.value"
            buffer, store = self._inputs[name], previous
        else:
            result.name = f"{name}_grad"
            buffer = ir.Value(
                name=name + BUFFER,
                type=ir.TensorType(ir.DataType.FLOAT),
                shape=self._inputs[name].shape,
            )
            self._buffers[name] = buffer
            both = ir.node("And", [self._reset, previous], name=f"{name}.store")
            self._graph.insert_after(after, both)
            after, store = both, _named(both, f"{name}.store")
        accumulator = ir.node(
            "InPlaceAccumulatorV2", [buffer, result, store], domain=MICROSOFT, name=f"{name}.sum"
        )
        self._graph.insert_after(after, accumulator)
        self._flags[name] = _named(accumulator, name + FLAG)
        return self._flags[name]


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None, f"{value.name} is not computed"
    return node


def _flag(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([1]))


def _named(node: ir.Node, name: str) -> ir.Value:
    """The node's output, a flag of that name."""
    (value,) = node.outputs
    value.name = name
    value.type = ir.TensorType(ir.DataType.BOOL)
    value.shape = ir.Shape([1])
    return value


def _forget_shapes(graph: ir.Graph) -> None:
    """Leave the shapes of inner tensors out of the file.

    The runtime keeps a dead tensor's memory for a later one of the same known shape, through all
    nodes between: 52 MB where 30 are needed (MobileNetV2, 224 px, batch 8, 3 blocks).
    """
    outputs = set(graph.outputs)
    for node in graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None
                value.type = None
