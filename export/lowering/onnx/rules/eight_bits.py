"""Maps in bytes: packing, and unpacking them for a weight gradient."""

from __future__ import annotations

import numpy as np
import torch
from onnxscript import ir
from torch import fx

from mobiletl.core.layers.bytes import STEPS, TINIEST
from mobiletl.export.lowering.onnx.builder import OnnxBuilder
from mobiletl.export.lowering.onnx.rules.operands import Rules, meta

Packed = tuple[ir.Value, ir.Value, ir.Value]


def _pack_bytes(b: OnnxBuilder, node: fx.Node, x: ir.Value, axis: int) -> Packed:
    """The zero is a quantised -low: the same quotient, rounded and limited in the same way."""
    rank = meta(node.args[0]).dim()
    others = b.integers([each for each in range(rank) if each != axis])
    nothing = b.constant([0.0], np.float32)
    low = b.op("Min", b.op("ReduceMin", x, others, keepdims=0), nothing)
    high = b.op("Max", b.op("ReduceMax", x, others, keepdims=0), nothing)
    range_ = b.op("Sub", high, low)
    scale = b.op("Div", range_, b.constant([float(STEPS)], np.float32))
    scale = b.op("Max", scale, b.constant([TINIEST], np.float32))
    channels = (int(meta(node.args[0]).shape[axis]),)
    none = b.constant(np.zeros(channels), np.uint8)
    zero = b.op("QuantizeLinear", b.op("Neg", low), scale, none, axis=0)
    return b.op("QuantizeLinear", x, scale, zero, axis=axis), scale, zero


def _unpack_bytes(
    b: OnnxBuilder, _node: fx.Node, kept: ir.Value, scale: ir.Value, zero: ir.Value, axis: int
) -> ir.Value:
    return b.op("DequantizeLinear", kept, scale, zero, axis=axis)


RULES: Rules = {
    torch.ops.mobiletl.pack_bytes.default: _pack_bytes,
    torch.ops.mobiletl.unpack_bytes.default: _unpack_bytes,
}
