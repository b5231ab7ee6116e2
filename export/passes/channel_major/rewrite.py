"""Store every activation as [C,N,H,W] and take convolutions and norms apart.

Match: every operator that reads or writes a map of four dimensions, one rule each in `RULES`. In
channel-major order a 1x1 convolution and both its gradients are single matrix products over [C,
N*H*W], per-channel sums run over contiguous memory, and no gradient needs a permuted copy. Kernels
keep their [C',C,k,k] order. Whatever has no rule is executed on plain tensors; a map is permuted
back for it, so an unknown operator costs time, never correctness.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import Argument, Target, map_aggregate

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers import bytes as in_bytes
from mobiletl.core.layers import masks
from mobiletl.export.operators import ELEMENTWISE
from mobiletl.export.passes.channel_major import batch_norm, convolution, group_norm, pooling
from mobiletl.export.passes.channel_major.convolution import Geometry
from mobiletl.export.passes.channel_major.layout import (
    SWAPPED,
    Major,
    Value,
    concatenation,
    elementwise,
    expand,
    major,
    on_each_channel,
    plain,
    reduction,
    section,
    variance,
)
from mobiletl.export.tracing.separable import SEPARABLE
from mobiletl.export.tracing.trace import Traced, retrace

aten = torch.ops.aten


def _pack_mask(a: Value) -> Tensor:
    packed: Tensor = masks.pack_mask(_as_packed(a))
    return packed


def _apply_mask(packed: Tensor, grad: Value) -> Value:
    masked = masks.apply_mask(packed, _as_packed(grad))
    return Major(masked) if masked.dim() == 4 else masked


def _pack_bytes(x: Value, axis: int) -> tuple[Value, Tensor, Tensor]:
    """Each scale is that of a channel, whichever axis the channels are along."""
    kept, scale, zero = in_bytes.pack_bytes(major(x), SWAPPED[axis])
    return Major(kept), scale, zero


def _unpack_bytes(kept: Value, scale: Tensor, zero: Tensor, axis: int) -> Value:
    return Major(in_bytes.unpack_bytes(major(kept), scale, zero, SWAPPED[axis]))


def _clone(x: Value, **_options: Any) -> Value:
    """A view of a copy may follow that none of the original could be."""
    return x.contiguous() if isinstance(x, Tensor) else x


def _as_packed(value: Value) -> Tensor:
    """Masks of maps are packed in channel-major order, so the gradient must be in it, too."""
    is_vector = isinstance(value, Tensor) and value.dim() != 4
    return value if is_vector else major(value)


def _convolution(
    x: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
) -> Value:
    geometry = Geometry.of(stride, padding, dilation, transposed, groups)
    return Major(convolution.forward(major(x), weight, bias, geometry))


def _convolution_backward(
    grad: Value,
    x: Value,
    weight: Tensor,
    _bias_sizes: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Value, ...]:
    geometry = Geometry.of(stride, padding, dilation, transposed, groups)
    g, values = major(grad), major(x)
    dx = Major(convolution.input_gradient(g, values, weight, geometry)) if wanted[0] else None
    dw = convolution.weight_gradient(g, values, weight, geometry) if wanted[1] else None
    db = convolution.bias_gradient(g) if wanted[2] else None
    return dx, dw, db


def _batch_norm_backward(
    grad: Value,
    x: Value,
    weight: Tensor,
    _running_mean: Tensor,
    _running_var: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    training: bool,
    _eps: float,
    _wanted: list[bool],
) -> tuple[Value, ...]:
    if not training:
        raise UnsupportedModel(
            "a batch norm in inference mode has no training rule; freeze it by folding it into its "
            "convolution, or train its statistics, too"
        )
    dx, dw, db = batch_norm.backward(major(grad), major(x), weight, mean, inverse_std)
    return Major(dx), dw, db


def _group_norm(
    x: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    _n: int,
    _c: int,
    _pixels: int,
    groups: int,
    eps: float,
) -> tuple[Value, ...]:
    return tuple(Major(value) for value in group_norm.forward(major(x), weight, bias, groups, eps))


def _group_norm_backward(
    grad: Value,
    x: Value,
    mean: Major,
    inverse_std: Major,
    weight: Tensor | None,
    _n: int,
    _c: int,
    _pixels: int,
    _groups: int,
    _wanted: list[bool],
) -> tuple[Value, ...]:
    dx, dw, db = group_norm.backward(major(grad), major(x), weight, mean.tensor, inverse_std.tensor)
    return Major(dx), dw, db


def _pool_backward(
    grad: Value,
    x: Value,
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    _ceil: bool,
    count_padding: bool,
    divisor: int | None,
) -> Value:
    height, width = major(x).shape[2:]
    size = (int(height), int(width))
    strides = stride or kernel
    return Major(
        pooling.input_gradient(major(grad), size, kernel, strides, padding, count_padding, divisor)
    )


RULES: dict[Any, Callable[..., Value]] = {
    **{target: elementwise(target) for target in ELEMENTWISE},
    torch.ops.mobiletl.pack_mask.default: _pack_mask,
    torch.ops.mobiletl.apply_mask.default: _apply_mask,
    torch.ops.mobiletl.pack_bytes.default: _pack_bytes,
    torch.ops.mobiletl.unpack_bytes.default: _unpack_bytes,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.native_group_norm.default: _group_norm,
    aten.native_group_norm_backward.default: _group_norm_backward,
    aten.avg_pool2d.default: on_each_channel(aten.avg_pool2d.default),
    SEPARABLE: on_each_channel(SEPARABLE),
    aten.avg_pool2d_backward.default: _pool_backward,
    aten.mean.dim: reduction(aten.mean.dim),
    aten.sum.dim_IntList: reduction(aten.sum.dim_IntList),
    aten.var.correction: variance,
    aten.expand.default: expand,
    aten.cat.default: concatenation,
    aten.slice.Tensor: section,
    operator.getitem: operator.getitem,
    aten.detach.default: lambda x: x,
    aten.clone.default: _clone,
}


class _ChannelMajor(fx.Interpreter):
    """Runs the traced graph with the rules above in place of its operators."""

    def run_node(self, n: fx.Node) -> Any:
        if n.target is aten._native_batch_norm_legit.default:
            return self._batch_norm(n)
        return super().run_node(n)

    def _batch_norm(self, node: fx.Node) -> tuple[Value, Tensor, Tensor]:
        """The operator also writes the new running statistics into its arguments 3 and 4, so those
        nodes get new values here and every later reader sees them.
        """
        x, weight, bias, old_mean, old_var, _, momentum, eps = self.fetch_args_kwargs_from_env(
            node
        )[0]
        values = major(x)
        y, mean, variance, inverse_std = batch_norm.forward(values, weight, bias, eps)
        unbiased = batch_norm.unbiased(variance, values)
        for argument, old, batch in ((3, old_mean, mean), (4, old_var, unbiased)):
            statistic = node.args[argument]
            assert isinstance(statistic, fx.Node)
            self.env[statistic] = batch_norm.running(old, batch, momentum)
        return Major(y), mean, inverse_std

    def call_function(
        self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]
    ) -> Any:
        rule = RULES.get(target)
        if rule is not None:
            return rule(*args, **kwargs)
        return super().call_function(target, map_aggregate(args, plain), kwargs)

    def output(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        return map_aggregate(args[0], plain)


def channel_major(traced: Traced) -> Traced:
    """Rewrite the whole graph."""

    def run(*arguments: Tensor) -> Any:
        return _ChannelMajor(traced.graph).run(*arguments)

    return traced.with_graph(retrace(run, traced.mode, traced.arguments))
