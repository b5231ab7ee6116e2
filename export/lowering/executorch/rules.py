"""One rule per operator that ExecuTorch does not run as it was traced: what computes it instead.

A rule takes the graph node and its arguments as tensors, and computes the result from operators
of `KERNELS` and from delegates. Shapes are static. Products, transposes and clamps
go to XNNPACK; ExecuTorch's own kernels are one loop on one thread each.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.bytes import STEPS, TINIEST
from mobiletl.core.layers.masks import BITS_PER_BYTE
from mobiletl.export.lowering.executorch.delegates import clamp, permute, product
from mobiletl.export.tracing.separable import SEPARABLE

aten = torch.ops.aten
Rule = Callable[..., Any]


def _pack_mask(node: fx.Node, a: Tensor) -> Tensor:
    """Eight runs of bytes 0 and 1, shifted and or-ed."""
    if a.numel() % BITS_PER_BYTE:
        raise UnsupportedModel(
            f"a masked activation has {a.numel()} elements (node {node.name}), expected a multiple "
            f"of {BITS_PER_BYTE}; use a batch or a width that is one"
        )
    size = a.numel() // BITS_PER_BYTE
    bits = (a >= 0).to(torch.uint8).view(-1)
    packed = bits[:size]
    for k in range(1, BITS_PER_BYTE):
        run = bits[k * size : (k + 1) * size]
        packed = torch.bitwise_or(packed, torch.bitwise_left_shift(run, k))
    return packed


def _apply_mask(node: fx.Node, packed: Tensor, grad: Tensor) -> Tensor:
    """Each bit of all bytes is a run of the mask; a gradient spread over a map broadcasts."""
    runs = [packed, *(torch.bitwise_right_shift(packed, k) for k in range(1, BITS_PER_BYTE))]
    bits = torch.cat([torch.bitwise_and(run, 1) for run in runs])
    return bits.to(torch.float32).view(node.meta["val"].shape) * grad


def _pack_bytes(_node: fx.Node, x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a matrix are channels, so that every operand has one axis to be spread over."""
    assert axis == 0
    rows = x.view(x.shape[0], -1)
    low = torch.minimum(torch.amin(rows, [1], True), torch.zeros(1))
    high = torch.maximum(torch.amax(rows, [1], True), torch.zeros(1))
    scale = torch.maximum((high - low) / STEPS, torch.full((1,), TINIEST))
    zero = torch.round(-low / scale)
    kept = clamp(torch.round(rows / scale) + zero, 0.0, float(STEPS)).to(torch.uint8)
    return kept.view(x.shape), scale.view(-1), zero.to(torch.uint8).view(-1)


def _unpack_bytes(_node: fx.Node, kept: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    assert axis == 0
    rows = kept.view(kept.shape[0], -1).to(torch.float32)
    steps = rows - zero.to(torch.float32).view(-1, 1)
    return (steps * scale.view(-1, 1)).view(kept.shape)


def _mm(_node: fx.Node, left: Tensor, right: Tensor) -> Tensor:
    # XNNPACK's batched product takes two computed operands; its plain one wants a constant.
    batched = product(left.view(1, *left.shape), right.view(1, *right.shape))
    return batched.view(left.shape[0], right.shape[1])


def _addmm(node: fx.Node, bias: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return _mm(node, left, right) + bias


def _transpose(_node: fx.Node, x: Tensor, one: int, other: int) -> Tensor:
    order = list(range(x.dim()))
    order[one], order[other] = order[other], order[one]
    return _permute(_node, x, order)


def _permute(_node: fx.Node, x: Tensor, order: Sequence[int]) -> Tensor:
    moved = [axis for axis in order if x.shape[axis] != 1]
    if moved == sorted(moved):
        return x.view([x.shape[axis] for axis in order])  # nothing moves in memory
    return permute(x, order)


def _expand(node: fx.Node, x: Tensor, sizes: Sequence[int]) -> Tensor:
    if all(reader.target in BROADCASTING for reader in node.users):
        return x
    copy: Tensor = torch.ops.aten.expand_copy.default(x, sizes)
    return copy


def _view(node: fx.Node, x: Tensor, _sizes: Sequence[int]) -> Tensor:
    return x.view(node.meta["val"].shape)


def _slice(_node: fx.Node, x: Tensor, axis: int, start: int, end: int, step: int = 1) -> Tensor:
    # The copying form: what follows may look at it in any shape.
    copy: Tensor = torch.ops.aten.slice_copy.Tensor(x, axis, start, end, step)
    return copy


def _select(_node: fx.Node, x: Tensor, axis: int, index: int) -> Tensor:
    copy: Tensor = torch.ops.aten.select_copy.int(x, axis, index)
    return copy


def _clamp(
    _node: fx.Node, x: Tensor, low: float | None = None, high: float | None = None
) -> Tensor:
    return clamp(x, low, high)


def _clamp_backward(_node: fx.Node, grad: Tensor, a: Tensor, low: float, high: float) -> Tensor:
    inside = torch.logical_and(a > low, a < high)
    return grad * inside.to(torch.float32)


def _threshold_backward(_node: fx.Node, grad: Tensor, a: Tensor, threshold: float) -> Tensor:
    return grad * (a > threshold).to(torch.float32)


def _hardsigmoid(_node: fx.Node, x: Tensor) -> Tensor:
    return clamp(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)


def _hardsigmoid_backward(_node: fx.Node, grad: Tensor, x: Tensor) -> Tensor:
    inside = torch.logical_and(x > -3.0, x < 3.0).to(torch.float32)
    return grad * inside * (1.0 / 6.0)


def _hardswish(node: fx.Node, x: Tensor) -> Tensor:
    return x * _hardsigmoid(node, x)


def _hardswish_backward(_node: fx.Node, grad: Tensor, x: Tensor) -> Tensor:
    """The slope is 0 below -3, x/3 + 1/2 up to 3, then 1."""
    above = (x >= 3.0).to(torch.float32)
    between = torch.logical_and(x > -3.0, x < 3.0).to(torch.float32)
    return grad * (above + between * (x * (1.0 / 3.0) + 0.5))


def _bmm(_node: fx.Node, left: Tensor, right: Tensor) -> Tensor:
    return product(left, right)


def _separable(node: fx.Node, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Two plain products; between them and after, rows and columns change places."""
    new_width, new_height = int(columns.shape[1]), int(rows.shape[0])
    wide = _mm(node, x.reshape(-1, int(x.shape[3])), columns)
    turned = permute(wide.view(-1, int(x.shape[2]), new_width), (0, 2, 1))
    flat = turned.view(-1, int(x.shape[2]))
    done = _mm(node, flat, permute(rows, (1, 0))).view(-1, new_width, new_height)
    return permute(done, (0, 2, 1)).view(node.meta["val"].shape)


def _same(_node: fx.Node, x: Tensor, **_options: Any) -> Tensor:
    return x


BROADCASTING = (aten.mul.Tensor, torch.ops.mobiletl.apply_mask.default)

RULES: dict[Any, Rule] = {
    torch.ops.mobiletl.pack_mask.default: _pack_mask,
    torch.ops.mobiletl.apply_mask.default: _apply_mask,
    torch.ops.mobiletl.pack_bytes.default: _pack_bytes,
    torch.ops.mobiletl.unpack_bytes.default: _unpack_bytes,
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.bmm.default: _bmm,
    aten.t.default: lambda n, x: _permute(n, x, (1, 0)),
    aten.transpose.int: _transpose,
    aten.permute.default: _permute,
    aten.expand.default: _expand,
    aten.view.default: _view,
    aten._unsafe_view.default: _view,
    aten.unsqueeze.default: _view,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.clamp.default: _clamp,
    aten.rsub.Scalar: lambda _n, x, other: other - x,
    aten.sgn.default: lambda _n, x: torch.sign(x),
    aten.sigmoid_backward.default: lambda _n, grad, y: grad * (y - y * y),
    SEPARABLE: _separable,
    aten.relu.default: lambda n, x: _clamp(n, x, 0.0, None),
    aten.hardtanh.default: _clamp,
    aten.hardtanh_backward.default: _clamp_backward,
    aten.threshold_backward.default: _threshold_backward,
    aten.hardsigmoid.default: _hardsigmoid,
    aten.hardsigmoid_backward.default: _hardsigmoid_backward,
    aten.hardswish.default: _hardswish,
    aten.hardswish_backward.default: _hardswish_backward,
    # Every value is computed once and written in the order of its shape: copies change nothing.
    aten.clone.default: _same,
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.lift_fresh_copy.default: _same,
}

# What runs as it is, in one kernel or in the few that the package takes it apart into.
KERNELS = frozenset(
    {
        aten.add.Tensor,
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.mul.Scalar,
        aten.div.Tensor,
        aten.div.Scalar,
        aten.minimum.default,
        aten.maximum.default,
        aten.neg.default,
        aten.abs.default,
        aten.pow.Tensor_Scalar,
        aten.sigmoid.default,
        aten.exp.default,
        aten.sqrt.default,
        aten.rsqrt.default,
        aten.reciprocal.default,
        aten.eq.Tensor,
        aten.sum.default,
        aten.sum.dim_IntList,
        aten.mean.default,
        aten.mean.dim,
        aten.argmax.default,
        aten.cumsum.default,
        aten.ones_like.default,
        aten.squeeze.dims,
        aten.stack.default,
        aten.cat.default,
        aten.constant_pad_nd.default,
        aten.convolution.default,
        aten._native_batch_norm_legit_no_training.default,
        aten.native_group_norm.default,
        aten.avg_pool2d.default,
        aten.var.correction,
        aten._log_softmax.default,
        aten._log_softmax_backward_data.default,
        aten._to_copy.default,
        operator.getitem,
    }
)
