"""Elementwise arithmetic, reductions, casts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnxscript import ir
from torch import fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.lowering.onnx.builder import ONNX_TYPES, OnnxBuilder
from mobiletl.export.lowering.onnx.rules.operands import Rule, Rules, meta, operand, unary

aten = torch.ops.aten


def _binary(kind: str) -> Rule:
    def rule(b: OnnxBuilder, node: fx.Node, left: Any, right: Any) -> ir.Value:
        like = meta(node)
        return b.op(kind, operand(b, left, like), operand(b, right, like))

    return rule


def _reversed_difference(b: OnnxBuilder, node: fx.Node, x: ir.Value, other: float) -> ir.Value:
    return b.op("Sub", operand(b, other, meta(node)), x)


def _power(b: OnnxBuilder, node: fx.Node, x: ir.Value, exponent: float) -> ir.Value:
    """Small whole exponents as products."""
    if exponent not in (1, 2, 3):
        return b.op("Pow", x, operand(b, exponent, meta(node)))
    result = x
    for _ in range(int(exponent) - 1):
        result = b.op("Mul", x, result)
    return result


def _equal(b: OnnxBuilder, _node: fx.Node, left: ir.Value, right: ir.Value) -> ir.Value:
    return b.op("Equal", left, right)


def _rsqrt(b: OnnxBuilder, _node: fx.Node, x: ir.Value) -> ir.Value:
    return b.op("Reciprocal", b.op("Sqrt", x))


def _reduce(kind: str) -> Rule:
    def rule(
        b: OnnxBuilder,
        _node: fx.Node,
        x: ir.Value,
        axes: Sequence[int] | None = None,
        keepdim: bool = False,
    ) -> ir.Value:
        inputs = [x] if axes is None else [x, b.integers(axes)]
        return b.op(kind, *inputs, keepdims=int(keepdim))

    return rule


def _sum_all(b: OnnxBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    source = node.args[0]
    if meta(source).dtype == torch.bool:
        x = b.op("Cast", x, to=ir.DataType.INT64)
    return b.op("ReduceSum", x, keepdims=0)


def _variance(
    b: OnnxBuilder, node: fx.Node, x: ir.Value, axes: Sequence[int] | None = None
) -> ir.Value:
    """The sum of squares around the mean, divided by their number less the correction."""
    shape = meta(node.args[0]).shape
    over = list(range(len(shape))) if axes is None else list(axes)
    if not all(isinstance(shape[axis], int) for axis in over):
        raise UnsupportedModel("a variance over pictures or classes has no ONNX translation")
    given = node.kwargs.get("correction")
    less = math.prod(shape[axis] for axis in over) - (1 if given is None else float(str(given)))
    centred = b.op("Sub", x, b.op("ReduceMean", x, b.integers(over), keepdims=1))
    keep = int(bool(node.kwargs.get("keepdim")))
    squares = b.op("ReduceSum", b.op("Mul", centred, centred), b.integers(over), keepdims=keep)
    return b.op("Div", squares, operand(b, less, meta(node)))


def _log_softmax_backward(
    b: OnnxBuilder, _node: fx.Node, grad: ir.Value, y: ir.Value, axis: int, _dtype: torch.dtype
) -> ir.Value:
    total = b.op("ReduceSum", grad, b.integers([axis]), keepdims=1)
    return b.op("Sub", grad, b.op("Mul", b.op("Exp", y), total))


def _ones_like(b: OnnxBuilder, node: fx.Node, x: ir.Value, **_options: Any) -> ir.Value:
    one = operand(b, 1, meta(node))
    return one if meta(node).dim() == 0 else b.op("Expand", one, b.op("Shape", x))


def _cumsum(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int) -> ir.Value:
    return b.op("CumSum", x, b.constant(axis, np.int64))


def _cast(b: OnnxBuilder, _node: fx.Node, x: ir.Value, dtype: torch.dtype) -> ir.Value:
    return b.op("Cast", x, to=ONNX_TYPES[dtype])


def _argmax(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int) -> ir.Value:
    return b.op("ArgMax", x, axis=axis, keepdims=0)


RULES: Rules = {
    aten.add.Tensor: _binary("Add"),
    aten.sub.Tensor: _binary("Sub"),
    aten.rsub.Scalar: _reversed_difference,
    aten.mul.Tensor: _binary("Mul"),
    aten.mul.Scalar: _binary("Mul"),
    aten.div.Tensor: _binary("Div"),
    aten.div.Scalar: _binary("Div"),
    aten.minimum.default: _binary("Min"),
    aten.maximum.default: _binary("Max"),
    aten.neg.default: unary("Neg"),
    aten.abs.default: unary("Abs"),
    aten.sgn.default: unary("Sign"),
    aten.exp.default: unary("Exp"),
    aten.pow.Tensor_Scalar: _power,
    aten.sqrt.default: unary("Sqrt"),
    aten.rsqrt.default: _rsqrt,
    aten.reciprocal.default: unary("Reciprocal"),
    aten.eq.Tensor: _equal,
    aten.sum.dim_IntList: _reduce("ReduceSum"),
    aten.sum.default: _sum_all,
    aten.amax.default: _reduce("ReduceMax"),
    aten.mean.dim: _reduce("ReduceMean"),
    aten.mean.default: _reduce("ReduceMean"),
    aten.var.correction: _variance,
    aten._log_softmax.default: lambda b, _n, x, axis, _half: b.op("LogSoftmax", x, axis=axis),
    aten._log_softmax_backward_data.default: _log_softmax_backward,
    aten.ones_like.default: _ones_like,
    aten.cumsum.default: _cumsum,
    aten._to_copy.default: _cast,
    aten.argmax.default: _argmax,
}
