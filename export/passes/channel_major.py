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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import Argument, Target, map_aggregate

from mobiletl.core import masks
from mobiletl.export.passes import batch_norm, convolution
from mobiletl.export.passes.convolution import Geometry
from mobiletl.export.trace import Traced, retrace

aten = torch.ops.aten


@dataclass(frozen=True)
class Major:
    """A map whose tensor is stored as [C,N,H,W] while the traced graph means [N,C,H,W]."""

    tensor: Tensor


Value = Any  # Tensor | Major | int | list | ...: whatever a graph node holds


def major(value: Value) -> Tensor:
    """The channel-major tensor of a map."""
    if isinstance(value, Major):
        return value.tensor
    assert isinstance(value, Tensor)
    return value.transpose(0, 1)


def plain(value: Value) -> Value:
    """The value as the traced graph means it."""
    return value.tensor.transpose(0, 1) if isinstance(value, Major) else value


def _elementwise(target: Callable[..., Tensor]) -> Callable[..., Value]:
    def rule(*args: Value, **kwargs: Value) -> Value:
        if not any(isinstance(a, Major) for a in args):
            return target(*args, **kwargs)
        moved = (major(a) if isinstance(a, Tensor) and a.dim() == 4 else _inner(a) for a in args)
        return Major(target(*moved, **kwargs))

    return rule


def _inner(value: Value) -> Value:
    return value.tensor if isinstance(value, Major) else value


def _pack_mask(a: Value) -> Tensor:
    packed: Tensor = masks.pack_mask(_inner(a))
    return packed


def _apply_mask(packed: Tensor, grad: Value) -> Value:
    # Masks are packed from channel-major maps, so the gradient must be in that order too.
    return Major(masks.apply_mask(packed, major(grad)))


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
    _training: bool,
    _eps: float,
    _wanted: list[bool],
) -> tuple[Value, ...]:
    dx, dw, db = batch_norm.backward(major(grad), major(x), weight, mean, inverse_std)
    return Major(dx), dw, db


def _over_pixels(target: Callable[..., Tensor]) -> Callable[..., Value]:
    """A sum or a mean; over H and W it needs no permuted map."""

    def rule(x: Value, dims: list[int], keepdim: bool = False) -> Value:
        if not isinstance(x, Major) or list(dims) != [2, 3]:
            return target(plain(x), dims, keepdim)
        reduced = target(x.tensor, dims, keepdim)
        return Major(reduced) if keepdim else reduced.t()

    return rule


def _expand(x: Value, sizes: list[int]) -> Value:
    if len(sizes) != 4:
        return plain(x).expand(sizes)
    batch, channels, *rest = sizes
    return Major(major(x).expand([channels, batch, *rest]))


ELEMENTWISE = (
    aten.add.Tensor,
    aten.mul.Tensor,
    aten.div.Scalar,
    aten.clamp.default,
    aten.relu.default,
    aten.threshold_backward.default,
    aten.hardtanh.default,
    aten.hardtanh_backward.default,
    aten.hardswish.default,
    aten.hardswish_backward.default,
    aten.hardsigmoid.default,
    aten.hardsigmoid_backward.default,
)

RULES: dict[Any, Callable[..., Value]] = {
    **{target: _elementwise(target) for target in ELEMENTWISE},
    torch.ops.mobiletl.pack_mask.default: _pack_mask,
    torch.ops.mobiletl.apply_mask.default: _apply_mask,
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.mean.dim: _over_pixels(aten.mean.dim),
    aten.sum.dim_IntList: _over_pixels(aten.sum.dim_IntList),
    aten.expand.default: _expand,
    operator.getitem: operator.getitem,
    aten.detach.default: lambda x: x,
    aten.clone.default: lambda x: x,
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
