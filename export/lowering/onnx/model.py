"""From a traced graph to an ONNX model of standard operators, N and K dynamic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from onnxscript import ir
from torch import fx
from torch.fx.node import map_aggregate

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.lowering.onnx.builder import (
    IR_VERSION,
    MICROSOFT,
    ONNX_TYPES,
    OPSET,
    OnnxBuilder,
)
from mobiletl.export.lowering.onnx.rules import RULES
from mobiletl.export.lowering.origin import origin
from mobiletl.export.tracing.trace import Traced


def lower_to_onnx(
    traced: Traced, name: str, constants: Mapping[str, torch.Tensor] | None = None
) -> ir.Model:
    """An ONNX model with the traced function's inputs and outputs. Those of `constants` that it
    reads keep their names. Raises UnsupportedModel for an operator without a rule.
    """
    return _Lowering(traced, constants or {}).model(name)


class _Lowering:
    def __init__(self, traced: Traced, constants: Mapping[str, torch.Tensor]) -> None:
        self._traced = traced
        # A traced graph keeps no names of tensors, but the tensors themselves.
        self._names = {tensor.data_ptr(): name for name, tensor in constants.items()}
        self._builder = OnnxBuilder(traced.symbol_names())
        self._values: dict[fx.Node, Any] = {}

    def model(self, name: str) -> ir.Model:
        inputs = self._inputs()
        for node in self._traced.graph.graph.nodes:
            if node.op == "get_attr":
                tensor = getattr(self._traced.graph, str(node.target)).detach()
                self._values[node] = self._builder.constant(
                    tensor.numpy(), tensor.numpy().dtype, self._names.get(tensor.data_ptr(), "")
                )
            elif node.op == "call_function":
                self._lower(node)
        outputs = self._outputs()
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._builder.nodes,
            initializers=list(self._builder.initializers.values()),
            opset_imports={"": OPSET, **({MICROSOFT: 1} if self._builder.has_own() else {})},
            name=name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="mobiletl")

    def _inputs(self) -> list[ir.Value]:
        values = []
        placeholders = self._traced.graph.graph.find_nodes(op="placeholder")
        for declared, node in zip(self._traced.inputs, placeholders, strict=True):
            value = ir.Value(
                name=declared.name,
                type=ir.TensorType(ONNX_TYPES[declared.dtype]),
                shape=ir.Shape(declared.shape),
            )
            for axis, size in enumerate(declared.shape):
                if isinstance(size, str):
                    self._builder.carry(size, value, axis)
            self._values[node] = value
            values.append(value)
        return values

    def _lower(self, node: fx.Node) -> None:
        if isinstance(node.meta.get("val"), torch.SymInt):
            return  # sizes are computed where they are read, from their expression
        rule = RULES.get(node.target)
        if rule is None:
            raise UnsupportedModel(
                f"the operator {node.target} of {origin(node, self._traced)} has no ONNX "
                "translation; train fewer blocks, or add a rule to export/lowering/onnx/rules/"
            )
        args = map_aggregate(node.args, self._resolve)
        kwargs = {k: v for k, v in node.kwargs.items() if k in ("dtype",) and v is not None}
        result = rule(self._builder, node, *args, **kwargs)
        self._values[node] = result
        if isinstance(result, ir.Value):
            self._annotate(result, node.meta["val"])

    def _resolve(self, argument: Any) -> Any:
        if not isinstance(argument, fx.Node):
            return argument
        value = argument.meta.get("val")
        return value if isinstance(value, torch.SymInt) else self._values[argument]

    def _annotate(self, value: ir.Value, meta: torch.Tensor) -> None:
        """Types and shapes that let a runtime see which tensors are of one size."""
        if value.shape is not None:
            return  # the rule passed an earlier value on
        value.type = ir.TensorType(ONNX_TYPES[meta.dtype])
        value.shape = ir.Shape([self._builder.dimension(s) for s in meta.shape])

    def _outputs(self) -> list[ir.Value]:
        (output,) = self._traced.graph.graph.find_nodes(op="output")
        values = []
        for name, node in zip(self._traced.outputs, output.args[0], strict=True):
            value = self._values[node]
            if value.producer() is None or value.name in self._traced.outputs:
                value = self._builder.op("Identity", value)
            value.name = name
            self._annotate(value, node.meta["val"])
            values.append(value)
        return values
