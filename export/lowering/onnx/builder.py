"""The little that the rules need to write ONNX: nodes, constants and symbolic sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
import torch
from onnxscript import ir

from mobiletl.core.errors import UnsupportedModel

OPSET = 18
IR_VERSION = 9
# onnxruntime's own operators.
MICROSOFT = "com.microsoft"

ONNX_TYPES = {
    torch.float32: ir.DataType.FLOAT,
    torch.int64: ir.DataType.INT64,
    torch.int32: ir.DataType.INT32,
    torch.uint8: ir.DataType.UINT8,
    torch.int8: ir.DataType.INT8,
    torch.bool: ir.DataType.BOOL,
}


class OnnxBuilder:
    """Collects nodes in order. Equal constants and equal sizes are written once."""

    def __init__(self, symbol_names: dict[str, str]) -> None:
        self.nodes: list[ir.Node] = []
        self.initializers: dict[bytes, ir.Value] = {}
        self._symbol_names = symbol_names
        self._carriers: dict[str, tuple[ir.Value, int]] = {}
        self._sizes: dict[sympy.Expr, ir.Value] = {}

    def op(
        self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Append a node and return its output; an input that is left out is None."""
        name = f"{kind}_{len(self.nodes)}"
        node = ir.node(kind, inputs, attributes, domain=domain, name=name)
        (value,) = node.outputs
        value.name = node.name
        self.nodes.append(node)
        return value

    def has_own(self) -> bool:
        """Whether a node is one of onnxruntime's own operators."""
        return any(node.domain == MICROSOFT for node in self.nodes)

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike, name: str = "") -> ir.Value:
        """A constant tensor; the same bytes in the same shape are the same constant, unless it is
        given a name of its own.
        """
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype)).reshape(np.shape(value))
        key = repr((array.shape, array.dtype.str, name)).encode() + array.tobytes()
        if key not in self.initializers:
            name = name or f"constant_{len(self.initializers)}"
            self.initializers[key] = ir.Value(
                name=name,
                type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
                shape=ir.Shape(array.shape),
                const_value=ir.tensor(array, name=name),
            )
        return self.initializers[key]

    def integers(self, values: Sequence[int]) -> ir.Value:
        """An int64 vector."""
        return self.constant(list(values), np.int64)

    def number(self, value: float) -> ir.Value:
        """A float32 scalar."""
        return self.constant(value, np.float32)

    def carry(self, symbol: str, value: ir.Value, axis: int) -> None:
        """Remember that dimension `axis` of `value` has the size called `symbol` (N or K)."""
        self._carriers.setdefault(symbol, (value, axis))

    def size(self, value: int | torch.SymInt) -> ir.Value:
        """An int64 scalar: a constant, or arithmetic on the shapes of graph inputs."""
        if isinstance(value, int):
            return self.constant(value, np.int64)
        return self._expression(value.node.expr)

    def dimension(self, value: int | torch.SymInt) -> int | str:
        """A size as ONNX writes it in a shape: a number, or an expression in N and K."""
        if isinstance(value, int):
            return value
        expression = value.node.expr
        named = {s: sympy.Symbol(self._symbol_names[str(s)]) for s in expression.free_symbols}
        return str(expression.subs(named))

    def _expression(self, expression: sympy.Expr) -> ir.Value:
        if expression not in self._sizes:
            self._sizes[expression] = self._compute(expression)
        return self._sizes[expression]

    def _compute(self, expression: sympy.Expr) -> ir.Value:
        if expression.is_Integer:
            return self.constant(int(expression), np.int64)
        if expression.is_Symbol:
            value, axis = self._carriers[self._symbol_names[str(expression)]]
            shape = self.op("Shape", value)
            return self.op("Gather", shape, self.constant(axis, np.int64), axis=0)
        kinds = {sympy.Add: "Add", sympy.Mul: "Mul"}
        if expression.func not in kinds:
            raise UnsupportedModel(
                f"the size {expression} has no ONNX form, expected sums and products"
            )
        first, *rest = (self._expression(term) for term in expression.args)
        for term in rest:
            first = self.op(kinds[expression.func], first, term)
        return first
