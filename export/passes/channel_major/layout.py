"""How a map is held while the graph is rewritten, and the rules that follow from that alone.

The traced graph means [N,C,H,W]; a `Major` holds [C,N,H,W]. What is no map, a kernel above all,
stays as it is. A small tensor spread to four dimensions may become either, and its first reader
decides: a `Spread` waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Axis of the traced graph's map to axis of the stored one, which is the same the other way round.
SWAPPED = (1, 0, 2, 3)

Value = Any  # Tensor | Major | Spread | int | list | ...: whatever a graph node holds


@dataclass(frozen=True)
class Major:
    """A map whose tensor is stored as [C,N,H,W] while the traced graph means [N,C,H,W]."""

    tensor: Tensor


@dataclass(frozen=True)
class Spread:
    """`tensor`, of four dimensions, to be expanded to `sizes`; both in the traced graph's order."""

    tensor: Tensor
    sizes: tuple[int, ...]


def major(value: Value) -> Tensor:
    """The channel-major tensor of a map."""
    if isinstance(value, Major):
        return value.tensor
    if isinstance(value, Spread):
        batch, channels, *rest = value.sizes
        return value.tensor.transpose(0, 1).expand([channels, batch, *rest])
    assert isinstance(value, Tensor)
    return value.transpose(0, 1)


def plain(value: Value) -> Value:
    """The value as the traced graph means it."""
    if isinstance(value, Major):
        return value.tensor.transpose(0, 1)
    return value.tensor.expand(value.sizes) if isinstance(value, Spread) else value


def elementwise(target: Callable[..., Tensor]) -> Callable[..., Value]:
    """A rule for arithmetic: operands broadcast, every element is treated alike."""

    def rule(*args: Value, **kwargs: Value) -> Value:
        if any(isinstance(a, Major) for a in args):
            return Major(target(*(_beside_a_map(a) for a in args), **kwargs))
        tensors = [a for a in args if isinstance(a, (Tensor, Spread))]
        if len(tensors) == 1 and isinstance(tensors[0], Spread):
            small = (a.tensor if isinstance(a, Spread) else a for a in args)
            return Spread(target(*small, **kwargs), tensors[0].sizes)
        return target(*(plain(a) for a in args), **kwargs)

    return rule


def on_each_channel(target: Callable[..., Tensor]) -> Callable[..., Value]:
    """A rule for what treats every channel of every picture alike; only `x` is a map."""

    def rule(x: Value, *args: Value) -> Value:
        return Major(target(x.tensor, *args)) if isinstance(x, Major) else target(plain(x), *args)

    return rule


def _beside_a_map(value: Value) -> Value:
    """An operand of arithmetic on channel-major maps; fewer dimensions than four are the last."""
    if isinstance(value, Tensor) and 0 < value.dim() < 4:
        value = _in_four(value)
    is_plain_map = isinstance(value, Tensor) and value.dim() == 4
    return major(value) if is_plain_map or isinstance(value, (Major, Spread)) else value


def _in_four(x: Tensor) -> Tensor:
    return x.view([1] * (4 - x.dim()) + list(x.shape))


def expand(x: Value, sizes: Sequence[int]) -> Value:
    """aten.expand: a map stays one, another tensor waits for its reader."""
    if len(sizes) != 4:
        return plain(x).expand(sizes)
    if isinstance(x, Major):
        batch, channels, *rest = sizes
        return Major(x.tensor.expand([channels, batch, *rest]))
    return Spread(_in_four(plain(x)), tuple(sizes))


def reduction(target: Callable[..., Tensor]) -> Callable[..., Value]:
    """A rule for a sum or a mean over some axes, without a permuted copy of the map."""

    def rule(x: Value, dims: Sequence[int] | None = None, keepdim: bool = False) -> Value:
        if not isinstance(x, Major) or dims is None:
            return target(plain(x), dims, keepdim)
        axes = [SWAPPED[axis] for axis in dims]
        reduced = target(x.tensor, axes, keepdim)
        if keepdim:
            return Major(reduced)
        return reduced if {0, 1} & {axis % 4 for axis in axes} else reduced.transpose(0, 1)

    return rule


def variance(
    x: Value,
    dims: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Value:
    """aten.var as the mean of squares; without `correction` it is 1, as in PyTorch."""
    values = plain(x)
    axes = list(range(values.dim())) if dims is None else list(dims)
    centred = values - torch.mean(values, axes, True)
    count = math.prod(values.shape[axis] for axis in axes)
    less = count - (1 if correction is None else correction)
    return torch.sum(centred * centred, axes, keepdim) / less


def concatenation(parts: Sequence[Value], axis: int = 0) -> Value:
    """aten.cat: maps if one of the parts is stored as such."""
    if not any(isinstance(part, Major) for part in parts):
        return torch.cat([plain(part) for part in parts], axis)
    return Major(torch.cat([major(part) for part in parts], SWAPPED[axis]))


def section(
    x: Value, axis: int = 0, start: int = 0, end: int | None = None, step: int = 1
) -> Value:
    """aten.slice, the backward pass of `concatenation`."""
    target = torch.ops.aten.slice.Tensor
    if isinstance(x, Major):
        return Major(target(x.tensor, SWAPPED[axis], start, end, step))
    return target(plain(x), axis, start, end, step)
