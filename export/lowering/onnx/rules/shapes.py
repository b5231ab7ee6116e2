"""Views, parts and joins: what moves elements and computes none."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np
import torch
from onnxscript import ir
from torch import fx

from mobiletl.core.layers import masks as _masks  # noqa: F401  registers the operators
from mobiletl.export.lowering.onnx.builder import OnnxBuilder
from mobiletl.export.lowering.onnx.rules.operands import Rules, Size, meta

aten = torch.ops.aten


def shape_vector(b: OnnxBuilder, sizes: Sequence[Size]) -> ir.Value:
    """A shape vector, computed where a size is symbolic."""
    if all(isinstance(s, int) for s in sizes):
        return b.integers([int(s) for s in sizes])
    where = b.integers([0])
    return b.op("Concat", *(b.op("Unsqueeze", b.size(s), where) for s in sizes), axis=0)


def _view(b: OnnxBuilder, node: fx.Node, x: ir.Value, _sizes: Sequence[Size]) -> ir.Value:
    sizes = meta(node).shape
    symbolic = [index for index, s in enumerate(sizes) if not isinstance(s, int)]
    if len(symbolic) > 1:
        return b.op("Reshape", x, shape_vector(b, sizes))
    return b.op("Reshape", x, b.integers([s if isinstance(s, int) else -1 for s in sizes]))


def _expand(b: OnnxBuilder, node: fx.Node, x: ir.Value, _sizes: Sequence[Size]) -> ir.Value:
    if all(_broadcasts(reader, node) for reader in node.users):
        return x
    return b.op("Expand", x, shape_vector(b, meta(node).shape))


def _broadcasts(reader: fx.Node, expanded: fx.Node) -> bool:
    """Whether `reader` reaches the size of `expanded` by itself, through another operand."""
    if reader.target not in BROADCASTING:
        return False
    others = [a for a in reader.all_input_nodes if a is not expanded]
    masked = reader.target is torch.ops.mobiletl.apply_mask.default
    return masked or any(
        a.target is not aten.expand.default and meta(a).shape == meta(reader).shape for a in others
    )


def _unsqueeze(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int) -> ir.Value:
    return b.op("Unsqueeze", x, b.integers([axis]))


def _permute(b: OnnxBuilder, _node: fx.Node, x: ir.Value, order: Sequence[int]) -> ir.Value:
    return b.op("Transpose", x, perm=list(order))


def _transpose(b: OnnxBuilder, node: fx.Node, x: ir.Value, one: int, other: int) -> ir.Value:
    order = list(range(meta(node).dim()))
    order[one], order[other] = order[other], order[one]
    return b.op("Transpose", x, perm=order)


def _slice(
    b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int, start: int, end: int, step: int = 1
) -> ir.Value:
    bounds = [b.integers([start]), b.integers([end]), b.integers([axis])]
    return b.op("Slice", x, *bounds, *([b.integers([step])] if step != 1 else []))


def _select(b: OnnxBuilder, _node: fx.Node, x: ir.Value, axis: int, index: int) -> ir.Value:
    return b.op("Gather", x, b.constant(index, np.int64), axis=axis)


def _flip(b: OnnxBuilder, node: fx.Node, x: ir.Value, axes: Sequence[int]) -> ir.Value:
    last, before_first = b.integers([-1] * len(axes)), b.integers([-(1 << 31)] * len(axes))
    return b.op("Slice", x, last, before_first, b.integers(axes), last)


def _pad(
    b: OnnxBuilder, node: fx.Node, x: ir.Value, widths: Sequence[int], value: float = 0.0
) -> ir.Value:
    rank = meta(node).dim()
    before, after = [0] * rank, [0] * rank
    for pair in range(len(widths) // 2):  # aten counts axes from the last one
        before[rank - 1 - pair], after[rank - 1 - pair] = widths[2 * pair : 2 * pair + 2]
    dtype = torch.empty(0, dtype=meta(node).dtype).numpy().dtype
    return b.op("Pad", x, b.integers([*before, *after]), b.constant(value, dtype))


def _stack(b: OnnxBuilder, _node: fx.Node, parts: Sequence[ir.Value], axis: int = 0) -> ir.Value:
    where = b.integers([axis])
    return b.op("Concat", *(b.op("Unsqueeze", part, where) for part in parts), axis=axis)


def _cat(b: OnnxBuilder, _node: fx.Node, parts: Sequence[ir.Value], axis: int = 0) -> ir.Value:
    return b.op("Concat", *parts, axis=axis)


BROADCASTING = (
    aten.mul.Tensor,
    aten.hardtanh_backward.default,
    aten.hardswish_backward.default,
    aten.threshold_backward.default,
    torch.ops.mobiletl.apply_mask.default,
)

RULES: Rules = {
    aten.view.default: _view,
    aten._unsafe_view.default: _view,
    aten.expand.default: _expand,
    aten.unsqueeze.default: _unsqueeze,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.constant_pad_nd.default: _pad,
    aten.flip.default: _flip,
    aten.stack.default: _stack,
    aten.cat.default: _cat,
    aten.alias.default: lambda _b, _n, x: x,  # a slice of everything
    aten.detach.default: lambda _b, _n, x, **_options: x,
    aten.clone.default: lambda _b, _n, x, **_options: x,
    aten.lift_fresh_copy.default: lambda _b, _n, x: x,
    operator.getitem: lambda _b, _n, values, index: values[index],
}
