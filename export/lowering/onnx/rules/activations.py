"""Activation functions and their backward."""

from __future__ import annotations

import torch
from onnxscript import ir
from torch import fx

from mobiletl.export.lowering.onnx.builder import OnnxBuilder
from mobiletl.export.lowering.onnx.rules.operands import Rules, meta, operand, unary

aten = torch.ops.aten


def _sigmoid_backward(b: OnnxBuilder, _node: fx.Node, grad: ir.Value, y: ir.Value) -> ir.Value:
    """grad (y - y y)."""
    return b.op("Mul", b.op("Sub", y, b.op("Mul", y, y)), grad)


def _clip(b: OnnxBuilder, _node: fx.Node, x: ir.Value, low: float, high: float) -> ir.Value:
    return b.op("Clip", x, b.number(low), b.number(high))


def _clip_backward(
    b: OnnxBuilder, _node: fx.Node, grad: ir.Value, a: ir.Value, low: float, high: float
) -> ir.Value:
    inside = b.op("And", b.op("Greater", a, b.number(low)), b.op("Less", a, b.number(high)))
    return b.op("Mul", b.op("Cast", inside, to=ir.DataType.FLOAT), grad)


def _relu_backward(
    b: OnnxBuilder, _node: fx.Node, grad: ir.Value, y: ir.Value, threshold: float
) -> ir.Value:
    passed = b.op("Cast", b.op("Greater", y, b.number(threshold)), to=ir.DataType.FLOAT)
    return b.op("Mul", passed, grad)


def _hard_sigmoid(b: OnnxBuilder, _node: fx.Node, a: ir.Value) -> ir.Value:
    return b.op("HardSigmoid", a, alpha=1 / 6, beta=0.5)


def _inside(b: OnnxBuilder, a: ir.Value) -> ir.Value:
    """1 where -3 < a < 3, where hard sigmoid and hard swish bend, else 0."""
    inside = b.op("And", b.op("Greater", a, b.number(-3.0)), b.op("Less", a, b.number(3.0)))
    return b.op("Cast", inside, to=ir.DataType.FLOAT)


def _hard_sigmoid_backward(b: OnnxBuilder, node: fx.Node, grad: ir.Value, a: ir.Value) -> ir.Value:
    slope = b.op("Mul", _inside(b, a), operand(b, 1 / 6, meta(node)))
    return b.op("Mul", slope, grad)


def _hard_swish(b: OnnxBuilder, node: fx.Node, a: ir.Value) -> ir.Value:
    # Not ONNX's HardSwish: onnxruntime has no kernel for it and makes the same two nodes of it,
    # behind the back of the memory plan.
    return b.op("Mul", a, _hard_sigmoid(b, node, a))


def _hard_swish_backward(b: OnnxBuilder, node: fx.Node, grad: ir.Value, a: ir.Value) -> ir.Value:
    """slope = hard_sigmoid(a) + a/6 inside: a/3 + 1/2 there, else 0 or 1."""
    ramp = b.op("Mul", b.op("Mul", _inside(b, a), a), operand(b, 1 / 6, meta(node)))
    return b.op("Mul", b.op("Add", ramp, _hard_sigmoid(b, node, a)), grad)


RULES: Rules = {
    aten.sigmoid.default: unary("Sigmoid"),
    aten.sigmoid_backward.default: _sigmoid_backward,
    aten.clamp.default: _clip,
    aten.hardtanh.default: _clip,
    aten.hardtanh_backward.default: _clip_backward,
    aten.relu.default: unary("Relu"),
    aten.threshold_backward.default: _relu_backward,
    aten.hardsigmoid.default: _hard_sigmoid,
    aten.hardsigmoid_backward.default: _hard_sigmoid_backward,
    aten.hardswish.default: _hard_swish,
    aten.hardswish_backward.default: _hard_swish_backward,
}
