"""One rule per aten operator: the ONNX nodes that compute it.

A rule takes the builder, the graph node and its arguments with tensors replaced by ONNX values.
Sizes are ints or SymInts. Only the default domain is used, opset 18.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from onnxscript import ir
from torch import fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.masks import BITS_PER_BYTE
from mobiletl.export.lowering.onnx_builder import ONNX_TYPES, OnnxBuilder
from mobiletl.export.separable import SEPARABLE

aten = torch.ops.aten
Size = int | torch.SymInt
Rule = Callable[..., Any]


def _meta(node: Any) -> torch.Tensor:
    value: torch.Tensor = node.meta["val"]
    return value


def _operand(b: OnnxBuilder, value: Any, meta: torch.Tensor) -> ir.Value:
    """A tensor, a number or a size as an operand of arithmetic whose result is like `meta`.

    Scalars get the rank of the result: onnxruntime's broadcasting of a scalar over a shape that
    ends in 1, as 1x1 kernels do, goes element by element and takes 90 times longer (4.0 ms
    against 0.044 ms for [1280,320,1,1], onnxruntime 1.31.1, x86-64).
    """
    ones = (1,) * meta.dim()
    if isinstance(value, ir.Value):
        scalar = value.shape is not None and len(value.shape) == 0
        return b.op("Reshape", value, b.integers(ones)) if scalar and ones else value
    if isinstance(value, torch.SymInt):
        size = b.op("Cast", b.size(value), to=ONNX_TYPES[meta.dtype])
        return b.op("Reshape", size, b.integers(ones)) if ones else size
    dtype = np.int64 if meta.dtype == torch.int64 else np.float32
    return b.constant(np.full(ones, value), dtype)


def _binary(kind: str) -> Rule:
    def rule(b: OnnxBuilder, node: fx.Node, left: Any, right: Any) -> ir.Value:
        meta = _meta(node)
        return b.op(kind, _operand(b, left, meta), _operand(b, right, meta))

    return rule


def _reversed_difference(b: OnnxBuilder, node: fx.Node, x: ir.Value, other: float) -> ir.Value:
    return b.op("Sub", _operand(b, other, _meta(node)), x)


def _power(b: OnnxBuilder, node: fx.Node, x: ir.Value, exponent: float) -> ir.Value:
    """Small whole exponents as products, which write over their operand."""
    if exponent not in (1, 2, 3):
        return b.op("Pow", x, _operand(b, exponent, _meta(node)))
    result = x
    for _ in range(int(exponent) - 1):
        result = b.op("Mul", x, result)
    return result


def _sigmoid_backward(b: OnnxBuilder, _node: fx.Node, grad: ir.Value, y: ir.Value) -> ir.Value:
    """grad (y - y y)."""
    return b.op("Mul", b.op("Sub", y, b.op("Mul", y, y)), grad)


def _equal(b: OnnxBuilder, _node: fx.Node, left: ir.Value, right: ir.Value) -> ir.Value:
    return b.op("Equal", left, right)


def _unary(kind: str) -> Rule:
    return lambda b, _node, x: b.op(kind, x)


def _rsqrt(b: OnnxBuilder, _node: fx.Node, x: ir.Value) -> ir.Value:
    return b.op("Reciprocal", b.op("Sqrt", x))


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
    slope = b.op("Mul", _inside(b, a), _operand(b, 1 / 6, _meta(node)))
    return b.op("Mul", slope, grad)


def _hard_swish(b: OnnxBuilder, node: fx.Node, a: ir.Value) -> ir.Value:
    # Not ONNX's HardSwish: onnxruntime has no kernel for it and makes the same two nodes of it,
    # behind the back of the memory plan.
    return b.op("Mul", a, _hard_sigmoid(b, node, a))


def _hard_swish_backward(b: OnnxBuilder, node: fx.Node, grad: ir.Value, a: ir.Value) -> ir.Value:
    """slope = hard_sigmoid(a) + a/6 inside: a/3 + 1/2 there, else 0 or 1."""
    ramp = b.op("Mul", b.op("Mul", _inside(b, a), a), _operand(b, 1 / 6, _meta(node)))
    return b.op("Mul", b.op("Add", ramp, _hard_sigmoid(b, node, a)), grad)


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
    if _meta(source).dtype == torch.bool:
        x = b.op("Cast", x, to=ir.DataType.INT64)
    return b.op("ReduceSum", x, keepdims=0)


def _shape(b: OnnxBuilder, sizes: Sequence[Size]) -> ir.Value:
    """A shape vector, computed where a size is symbolic."""
    if all(isinstance(s, int) for s in sizes):
        return b.integers([int(s) for s in sizes])
    where = b.integers([0])
    return b.op("Concat", *(b.op("Unsqueeze", b.size(s), where) for s in sizes), axis=0)


def _view(b: OnnxBuilder, node: fx.Node, x: ir.Value, _sizes: Sequence[Size]) -> ir.Value:
    sizes = _meta(node).shape
    symbolic = [index for index, s in enumerate(sizes) if not isinstance(s, int)]
    if len(symbolic) > 1:
        return b.op("Reshape", x, _shape(b, sizes))
    return b.op("Reshape", x, b.integers([s if isinstance(s, int) else -1 for s in sizes]))


def _expand(b: OnnxBuilder, node: fx.Node, x: ir.Value, _sizes: Sequence[Size]) -> ir.Value:
    if all(_broadcasts(reader, node) for reader in node.users):
        return x
    return b.op("Expand", x, _shape(b, _meta(node).shape))


def _broadcasts(reader: fx.Node, expanded: fx.Node) -> bool:
    """Whether `reader` reaches the size of `expanded` by itself, through another operand."""
    if reader.target not in BROADCASTING:
        return False
    others = [a for a in reader.all_input_nodes if a is not expanded]
    masked = reader.target is torch.ops.mobiletl.apply_mask.default
    return masked or any(
        a.target is not aten.expand.default and _meta(a).shape == _meta(reader).shape
        for a in others
    )


def _unsqueeze(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int) -> ir.Value:
    return b.op("Unsqueeze", x, b.integers([axis]))


def _permute(b: OnnxBuilder, _node: fx.Node, x: ir.Value, order: Sequence[int]) -> ir.Value:
    return b.op("Transpose", x, perm=list(order))


def _transpose(b: OnnxBuilder, node: fx.Node, x: ir.Value, one: int, other: int) -> ir.Value:
    order = list(range(_meta(node).dim()))
    order[one], order[other] = order[other], order[one]
    return b.op("Transpose", x, perm=order)


def _t(b: OnnxBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    if all(reader.target in MATRIX_PRODUCTS for reader in node.users):
        return x  # `Gemm` transposes by a flag, see `_flags`
    return b.op("Transpose", x, perm=[1, 0])


def _flags(node: fx.Node, first: int) -> dict[str, int]:
    """Whether the two factors at `first` and `first + 1` were passed on untransposed by `_t`."""
    flags = {}
    for name, factor in zip(("transA", "transB"), node.args[first : first + 2], strict=True):
        assert isinstance(factor, fx.Node)
        skipped = factor.target is aten.t.default and all(
            reader.target in MATRIX_PRODUCTS for reader in factor.users
        )
        flags[name] = int(skipped)
    return flags


def _mm(b: OnnxBuilder, node: fx.Node, left: ir.Value, right: ir.Value) -> ir.Value:
    return b.op("Gemm", left, right, **_flags(node, 0))


def _addmm(
    b: OnnxBuilder, node: fx.Node, bias: ir.Value, left: ir.Value, right: ir.Value
) -> ir.Value:
    return b.op("Gemm", left, right, bias, **_flags(node, 1))


def _bmm(b: OnnxBuilder, _node: fx.Node, left: ir.Value, right: ir.Value) -> ir.Value:
    return b.op("MatMul", left, right)


def _slice(
    b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int, start: int, end: int, step: int = 1
) -> ir.Value:
    bounds = [b.integers([start]), b.integers([end]), b.integers([axis])]
    return b.op("Slice", x, *bounds, *([b.integers([step])] if step != 1 else []))


def _select(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int, index: int) -> ir.Value:
    return b.op("Gather", x, b.constant(index, np.int64), axis=axis)


def _pad(
    b: OnnxBuilder, node: fx.Node, x: ir.Value, widths: Sequence[int], value: float = 0.0
) -> ir.Value:
    rank = _meta(node).dim()
    before, after = [0] * rank, [0] * rank
    for pair in range(len(widths) // 2):  # aten counts axes from the last one
        before[rank - 1 - pair], after[rank - 1 - pair] = widths[2 * pair : 2 * pair + 2]
    return b.op("Pad", x, b.integers([*before, *after]), b.number(value))


def _stack(b: OnnxBuilder, _node: fx.Node, parts: Sequence[ir.Value], axis: int = 0) -> ir.Value:
    where = b.integers([axis])
    return b.op("Concat", *(b.op("Unsqueeze", part, where) for part in parts), axis=axis)


def _cat(b: OnnxBuilder, _node: fx.Node, parts: Sequence[ir.Value], axis: int = 0) -> ir.Value:
    return b.op("Concat", *parts, axis=axis)


def _convolution(
    b: OnnxBuilder,
    node: fx.Node,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> ir.Value:
    shape = [s if isinstance(s, int) else 0 for s in _meta(node.args[1]).shape[2:]]
    attributes: dict[str, Any] = {
        "strides": list(stride),
        "pads": [*padding, *padding],
        "dilations": list(dilation),
        "group": groups,
        "kernel_shape": shape,
    }
    inputs = [x, weight] if bias is None else [x, weight, bias]
    if transposed:
        return b.op("ConvTranspose", *inputs, output_padding=list(output_padding), **attributes)
    return b.op("Conv", *inputs, **attributes)


def _batch_norm_inference(
    b: OnnxBuilder,
    _node: fx.Node,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value,
    mean: ir.Value,
    var: ir.Value,
    _momentum: float,
    eps: float,
) -> tuple[ir.Value]:
    return (b.op("BatchNormalization", x, weight, bias, mean, var, epsilon=eps),)


def _group_norm(
    b: OnnxBuilder,
    node: fx.Node,
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    _n: Size,
    channels: int,
    _pixels: int,
    groups: int,
    eps: float,
) -> tuple[ir.Value]:
    """Every group is one instance; scale and shift follow. opset 18's own scales by groups only."""
    instances = b.op("Reshape", x, b.integers([0, groups, -1]))
    one, zero = (b.constant(np.full(groups, value), np.float32) for value in (1, 0))
    normal = b.op("InstanceNormalization", instances, one, zero, epsilon=eps)
    sizes = [s if isinstance(s, int) else -1 for s in _meta(node.args[0]).shape]
    y = b.op("Reshape", normal, b.integers(sizes))
    per_channel = b.integers([1, channels, *(1 for _ in sizes[2:])])
    if weight is not None:
        y = b.op("Mul", y, b.op("Reshape", weight, per_channel))
    return (y if bias is None else b.op("Add", y, b.op("Reshape", bias, per_channel)),)


def _average_pool(
    b: OnnxBuilder,
    _node: fx.Node,
    x: ir.Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> ir.Value:
    if divisor is not None or (ceil and any(padding)):
        raise UnsupportedModel(
            f"an average pooling with divisor_override={divisor}, ceil_mode={ceil} and padding "
            f"{list(padding)} has no ONNX translation, expected no divisor_override, and ceil_mode "
            "only without padding"
        )
    return b.op(
        "AveragePool",
        x,
        kernel_shape=list(kernel),
        strides=list(stride or kernel),
        pads=[*padding, *padding],
        ceil_mode=int(ceil),
        # Without padding both counts are the same, and runtimes differ where windows hang over.
        count_include_pad=int(count_padding and any(padding)),
    )


def _separable(
    b: OnnxBuilder, _node: fx.Node, x: ir.Value, rows: ir.Value, columns: ir.Value
) -> ir.Value:
    return b.op("MatMul", b.op("MatMul", rows, x), columns)


def _variance(
    b: OnnxBuilder, node: fx.Node, x: ir.Value, axes: Sequence[int] | None = None
) -> ir.Value:
    """The sum of squares around the mean, divided by their number less the correction."""
    shape = _meta(node.args[0]).shape
    over = list(range(len(shape))) if axes is None else list(axes)
    if not all(isinstance(shape[axis], int) for axis in over):
        raise UnsupportedModel("a variance over pictures or classes has no ONNX translation")
    given = node.kwargs.get("correction")
    less = math.prod(shape[axis] for axis in over) - (1 if given is None else float(str(given)))
    centred = b.op("Sub", x, b.op("ReduceMean", x, b.integers(over), keepdims=1))
    keep = int(bool(node.kwargs.get("keepdim")))
    squares = b.op("ReduceSum", b.op("Mul", centred, centred), b.integers(over), keepdims=keep)
    return b.op("Div", squares, _operand(b, less, _meta(node)))


def _log_softmax_backward(
    b: OnnxBuilder, _node: fx.Node, grad: ir.Value, y: ir.Value, axis: int, _dtype: torch.dtype
) -> ir.Value:
    total = b.op("ReduceSum", grad, b.integers([axis]), keepdims=1)
    return b.op("Sub", grad, b.op("Mul", b.op("Exp", y), total))


def _ones_like(b: OnnxBuilder, node: fx.Node, x: ir.Value, **_options: Any) -> ir.Value:
    one = _operand(b, 1, _meta(node))
    return one if _meta(node).dim() == 0 else b.op("Expand", one, b.op("Shape", x))


def _cumsum(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int) -> ir.Value:
    return b.op("CumSum", x, b.constant(axis, np.int64))


def _cast(b: OnnxBuilder, _node: fx.Node, x: ir.Value, dtype: torch.dtype) -> ir.Value:
    return b.op("Cast", x, to=ONNX_TYPES[dtype])


def _argmax(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int) -> ir.Value:
    return b.op("ArgMax", x, axis=axis, keepdims=0)


def _pack_mask(b: OnnxBuilder, node: fx.Node, a: ir.Value) -> ir.Value:
    """Eight rows of 0 and 1 times (1, 2, 4 ... 128): an integer product packs each column."""
    _require_whole_bytes(_meta(node.args[0]))
    bits = b.op("Cast", b.op("GreaterOrEqual", a, b.number(0.0)), to=ir.DataType.UINT8)
    rows = b.op("Reshape", bits, b.integers([BITS_PER_BYTE, -1]))
    powers = b.constant([[1 << k for k in range(BITS_PER_BYTE)]], np.uint8)
    packed = b.op("Cast", b.op("MatMulInteger", powers, rows), to=ir.DataType.UINT8)
    return b.op("Reshape", packed, b.integers([-1]))


def _apply_mask(b: OnnxBuilder, node: fx.Node, packed: ir.Value, grad: ir.Value) -> ir.Value:
    """Every byte against 1, 2, 4, ... 128 gives eight rows, which are the mask in order."""
    powers = b.constant([[1 << k] for k in range(BITS_PER_BYTE)], np.uint8)
    rows = b.op("BitwiseAnd", b.op("Reshape", packed, b.integers([1, -1])), powers)
    sizes = [s if isinstance(s, int) else -1 for s in _meta(node).shape]
    # Through bool, which makes every power of two a 1.
    bits = b.op("Cast", b.op("Cast", rows, to=ir.DataType.BOOL), to=ir.DataType.FLOAT)
    return b.op("Mul", b.op("Reshape", bits, b.integers(sizes)), grad)


def _require_whole_bytes(a: torch.Tensor) -> None:
    """The eight runs of a mask are equally long for every N only then (core/masks.py pads)."""
    per_picture = math.prod(s for s in a.shape if isinstance(s, int))
    if per_picture % BITS_PER_BYTE:
        raise UnsupportedModel(
            f"a masked activation has {per_picture} elements per picture, expected a multiple of "
            f"{BITS_PER_BYTE}; use a width whose channels are multiples of {BITS_PER_BYTE}"
        )


MATRIX_PRODUCTS = (aten.mm.default, aten.addmm.default)
BROADCASTING = (
    aten.mul.Tensor,
    aten.hardtanh_backward.default,
    aten.hardswish_backward.default,
    aten.threshold_backward.default,
    torch.ops.mobiletl.apply_mask.default,
)

RULES: dict[Any, Rule] = {
    aten.add.Tensor: _binary("Add"),
    aten.sub.Tensor: _binary("Sub"),
    aten.rsub.Scalar: _reversed_difference,
    aten.mul.Tensor: _binary("Mul"),
    aten.mul.Scalar: _binary("Mul"),
    aten.div.Tensor: _binary("Div"),
    aten.div.Scalar: _binary("Div"),
    aten.minimum.default: _binary("Min"),
    aten.maximum.default: _binary("Max"),
    aten.neg.default: _unary("Neg"),
    aten.abs.default: _unary("Abs"),
    aten.sgn.default: _unary("Sign"),
    aten.exp.default: _unary("Exp"),
    aten.pow.Tensor_Scalar: _power,
    aten.sigmoid.default: _unary("Sigmoid"),
    aten.sigmoid_backward.default: _sigmoid_backward,
    aten.sqrt.default: _unary("Sqrt"),
    aten.rsqrt.default: _rsqrt,
    aten.reciprocal.default: _unary("Reciprocal"),
    aten.eq.Tensor: _equal,
    aten.clamp.default: _clip,
    aten.hardtanh.default: _clip,
    aten.hardtanh_backward.default: _clip_backward,
    aten.relu.default: _unary("Relu"),
    aten.threshold_backward.default: _relu_backward,
    aten.hardsigmoid.default: _hard_sigmoid,
    aten.hardsigmoid_backward.default: _hard_sigmoid_backward,
    aten.hardswish.default: _hard_swish,
    aten.hardswish_backward.default: _hard_swish_backward,
    aten.sum.dim_IntList: _reduce("ReduceSum"),
    aten.sum.default: _sum_all,
    aten.mean.dim: _reduce("ReduceMean"),
    aten.mean.default: _reduce("ReduceMean"),
    aten.view.default: _view,
    aten._unsafe_view.default: _view,
    aten.expand.default: _expand,
    aten.unsqueeze.default: _unsqueeze,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.t.default: _t,
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.bmm.default: _bmm,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.constant_pad_nd.default: _pad,
    aten.stack.default: _stack,
    aten.cat.default: _cat,
    aten.convolution.default: _convolution,
    aten._native_batch_norm_legit_no_training.default: _batch_norm_inference,
    aten.native_group_norm.default: _group_norm,
    aten.avg_pool2d.default: _average_pool,
    aten.var.correction: _variance,
    SEPARABLE: _separable,
    aten._log_softmax.default: lambda b, _n, x, axis, _half: b.op("LogSoftmax", x, axis=axis),
    aten._log_softmax_backward_data.default: _log_softmax_backward,
    aten.ones_like.default: _ones_like,
    aten.cumsum.default: _cumsum,
    aten._to_copy.default: _cast,
    aten.argmax.default: _argmax,
    aten.alias.default: lambda _b, _n, x: x,  # a slice of everything
    aten.detach.default: lambda _b, _n, x, **_options: x,
    aten.clone.default: lambda _b, _n, x, **_options: x,
    aten.lift_fresh_copy.default: lambda _b, _n, x: x,
    operator.getitem: lambda _b, _n, values, index: values[index],
    torch.ops.mobiletl.pack_mask.default: _pack_mask,
    torch.ops.mobiletl.apply_mask.default: _apply_mask,
}
