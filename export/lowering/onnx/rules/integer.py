"""Operators of an integer step: bytes out of floats, products of bytes, depthwise convolutions.

Two operators are onnxruntime's own (domain com.microsoft), found in every release since 1.9: a
product of bytes that is scaled while it is written, and a convolution of bytes whose channels lie
side by side.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from onnxscript import ir
from torch import fx

from mobiletl.core.integer.operators import (
    CENTRE,
    CENTRED_STEPS,
    CLAMPED_SCALE,
    MOST_SHIFT,
    TINIEST,
)
from mobiletl.export.lowering.onnx.builder import MICROSOFT, OnnxBuilder
from mobiletl.export.lowering.onnx.rules.one_bit import packed, unpacked
from mobiletl.export.lowering.onnx.rules.operands import Rules, meta
from mobiletl.export.lowering.onnx.rules.shapes import shape_vector

Pair = tuple[ir.Value, ir.Value]


def _byte(b: OnnxBuilder, value: int) -> ir.Value:
    return b.constant(value, np.uint8)


def _scale(
    b: OnnxBuilder, x: ir.Value, steps: int, tiniest: float, axes: list[int] | None
) -> ir.Value:
    """max|x| over `axes` (None: all), divided by `steps`."""
    over = [] if axes is None else [b.integers(axes)]
    high = b.op("ReduceMax", x, *over, keepdims=0)
    low = b.op("ReduceMin", x, *over, keepdims=0)
    peak = b.op("Max", high, b.op("Neg", low))
    rank = () if axes is None else (1,)
    step = b.op("Div", peak, b.constant(np.full(rank, steps), np.float32))
    return b.op("Max", step, b.constant(np.full(rank, tiniest), np.float32))


def _centred_bytes(b: OnnxBuilder, _node: fx.Node, x: ir.Value) -> Pair:
    scale = _scale(b, x, CENTRED_STEPS, TINIEST, None)
    return b.op("QuantizeLinear", x, scale, _byte(b, CENTRE)), scale


def _signed_bytes(
    b: OnnxBuilder, node: fx.Node, x: ir.Value, axis: int, steps: int, tiniest: float
) -> Pair:
    """Columns are divided first: scales along the last axis take onnxruntime's QuantizeLinear 100
    times as long (8.9 ms for [392,960], onnxruntime 1.31.1, x86-64).
    """
    scale = _scale(b, x, steps, tiniest, [1 - axis])
    if axis == 1:
        divided = b.op("Div", x, scale)
        return b.op("QuantizeLinear", divided, b.number(1.0), b.constant(0, np.int8)), scale
    zeros = b.constant(np.zeros(int(meta(node.args[0]).shape[0])), np.int8)
    return b.op("QuantizeLinear", x, scale, zeros, axis=0), scale


def _rescaled_bytes(b: OnnxBuilder, _node: fx.Node, kept: ir.Value, scale: ir.Value) -> Pair:
    common = b.op("ReduceMax", scale, keepdims=0)
    x = b.op("DequantizeLinear", kept, scale, axis=0)
    return b.op("QuantizeLinear", x, common, b.constant(0, np.int8)), common


def _clamped_bytes(b: OnnxBuilder, _node: fx.Node, x: ir.Value) -> ir.Value:
    return b.op("QuantizeLinear", x, b.number(CLAMPED_SCALE), _byte(b, 0))


def _byte_product(
    b: OnnxBuilder,
    _node: fx.Node,
    left: ir.Value,
    left_scale: ir.Value,
    centre: int,
    right: ir.Value,
    right_scale: ir.Value,
    bias: ir.Value | None,
) -> ir.Value:
    return b.op(
        "MatMulIntegerToFloat",
        left,
        right,
        left_scale,
        right_scale,
        _byte(b, centre),
        *([] if bias is None else [None, bias]),
        domain=MICROSOFT,
    )


def _byte_depthwise(
    b: OnnxBuilder,
    node: fx.Node,
    x: ir.Value,
    centre: int,
    kernel: ir.Value,
    factor: ir.Value,
    shift: ir.Value | None,
    stride: int,
    padding: int,
) -> ir.Value:
    channels, _, side, _ = (int(size) for size in meta(node.args[2]).shape)
    whole = []
    if shift is not None:
        most = b.number(MOST_SHIFT)
        limited = b.op("Clip", b.op("Round", shift), b.number(-MOST_SHIFT), most)
        whole = [b.op("Cast", limited, to=ir.DataType.INT32)]
    one, zero = b.number(1.0), _byte(b, centre)
    zeros = b.constant(np.zeros(channels), np.int8)
    return b.op(
        "QLinearConv",
        *(x, one, zero, kernel, factor, zeros, one, zero, *whole),
        domain=MICROSOFT,
        channels_last=1,
        group=channels,
        kernel_shape=[side, side],
        strides=[stride, stride],
        pads=[padding] * 4,
    )


def _byte_kernel_sums(
    b: OnnxBuilder, node: fx.Node, x: ir.Value, grad: ir.Value, side: int, stride: int, padding: int
) -> ir.Value:
    """For each channel, columns of the gradient times columns of x moved by every kernel row; the
    sums of one column offset are then picked out by a product with zeros and ones.
    """
    _, _, width, channels = (int(s) if isinstance(s, int) else 0 for s in meta(node.args[0]).shape)
    out_height, out_width = (int(size) for size in meta(node.args[1]).shape[1:3])
    padded = b.op("Pad", x, b.integers([0, padding, 0, 0, 0, padding, 0, 0]), _byte(b, 0))
    reach = stride * (out_height - 1) + 1
    moved = [
        b.op("Slice", padded, *(b.integers([v]) for v in (row, row + reach, 1, stride)))
        for row in range(side)
    ]
    right = _by_channel(b, b.op("Concat", *moved, axis=2), [channels, -1, side * width])
    columns = b.op("Transpose", grad, perm=[2, 0, 1, 3])
    left = _by_channel(b, columns, [channels, out_width, -1])
    sums = b.op("MatMulInteger", left, right, _byte(b, CENTRE))
    pairs = b.op("Reshape", b.op("Cast", sums, to=ir.DataType.FLOAT), b.integers([channels, -1]))
    offsets = _offsets(out_width, side, width, stride, padding)
    return b.op("Gemm", pairs, b.constant(offsets, np.float32))


def _by_channel(b: OnnxBuilder, x: ir.Value, sizes: list[int]) -> ir.Value:
    """Channels, the last axis, in front: a plain transpose of a matrix is the fast one."""
    rows = b.op("Reshape", x, b.integers([-1, sizes[0]]))
    return b.op("Reshape", b.op("Transpose", rows, perm=[1, 0]), b.integers(sizes))


def _offsets(
    out_width: int, side: int, width: int, stride: int, padding: int
) -> NDArray[np.float32]:
    """1 where output column o, kernel row dy and input column i belong to the kernel's (dy, dx):
    [o dy i, dy dx].
    """
    o, dy, i, row, dx = np.ogrid[:out_width, :side, :width, :side, :side]
    belongs = (dy == row) & (i == stride * o + dx - padding)
    flat: NDArray[np.float32] = belongs.reshape(-1, side * side).astype(np.float32)
    return flat


def _masked_bytes(b: OnnxBuilder, node: fx.Node, mask: ir.Value, grad: ir.Value) -> ir.Value:
    passes = b.op("Cast", mask, to=ir.DataType.BOOL)
    nothing = b.constant(np.full((1,) * meta(node).dim(), CENTRE), np.uint8)
    return b.op("Where", passes, grad, nothing)


def _pack_bits(b: OnnxBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return packed(b, node, b.op("Cast", x, to=ir.DataType.BOOL))


def _masked_by_bits(b: OnnxBuilder, node: fx.Node, bits: ir.Value, grad: ir.Value) -> ir.Value:
    sizes = [s if isinstance(s, int) else -1 for s in meta(node).shape]
    passes = b.op("Reshape", unpacked(b, bits), b.integers(sizes))
    nothing = b.constant(np.full((1,) * len(sizes), CENTRE), np.uint8)
    return b.op("Where", passes, grad, nothing)


def _byte_sums(b: OnnxBuilder, node: fx.Node, turned: ir.Value) -> ir.Value:
    channels, rows = meta(node.args[0]).shape
    ones = b.op("Expand", b.constant([[1]], np.int8), shape_vector(b, [rows, 1]))
    sums = b.op("MatMulInteger", turned, ones, _byte(b, CENTRE))
    return b.op("Reshape", b.op("Cast", sums, to=ir.DataType.FLOAT), b.integers([int(channels)]))


_OPS = torch.ops.mobiletl
RULES: Rules = {
    _OPS.centred_bytes.default: _centred_bytes,
    _OPS.signed_bytes.default: _signed_bytes,
    _OPS.rescaled_bytes.default: _rescaled_bytes,
    _OPS.clamped_bytes.default: _clamped_bytes,
    _OPS.byte_product.default: _byte_product,
    _OPS.byte_depthwise.default: _byte_depthwise,
    _OPS.byte_kernel_sums.default: _byte_kernel_sums,
    _OPS.masked_bytes.default: _masked_bytes,
    _OPS.byte_sums.default: _byte_sums,
    _OPS.pack_bits.default: _pack_bits,
    _OPS.masked_by_bits.default: _masked_by_bits,
}
