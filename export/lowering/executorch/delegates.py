"""Operators that XNNPACK runs inside an ExecuTorch program, one delegate per operator and shape.

Why single operators and not the partitioner, which cuts out whole regions: a delegate keeps its
inner tensors in a workspace of its own, which the planned arena does not show, and a region pulls
nodes together that the order of a training step wants apart. Here every tensor of the step stays
in the arena. Two calls of one operator on the same shapes share one piece of code in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from mobiletl.export.lowering.executorch.library import edge_program, xnnpack_program

# Operands, then options.
FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "product": torch.bmm,
    "permute": lambda x, *order: x.permute(order).contiguous(),
    "clamp": torch.clamp,
}


def product(left: Tensor, right: Tensor) -> Tensor:
    """left [b,m,k] times right [b,k,n] -> [b,m,n], float32."""
    return _call("product", (), left, right)


def permute(x: Tensor, order: Sequence[int]) -> Tensor:
    """The axes of x in another order, copied."""
    return _call("permute", tuple(order), x)


def clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    """x limited to low..high."""
    return _call("clamp", (low, high), x)


def _call(name: str, options: tuple[float | None, ...], *operands: Tensor) -> Tensor:
    shapes = tuple(tuple(int(size) for size in x.shape) for x in operands)
    result = _compiled(name, options, shapes)(*operands)
    first: Tensor = result[0] if isinstance(result, (tuple, list)) else result
    return first


@cache  # a second program of the same layers costs half the time
def _compiled(
    name: str, options: tuple[float | None, ...], shapes: tuple[tuple[int, ...], ...]
) -> Any:
    # Tracing is under way, with tensors that have no memory; this is a program of its own.
    with unset_fake_temporarily(), disable_proxy_modes_tracing():
        examples = tuple(torch.zeros(shape) for shape in shapes)
        return xnnpack_program(edge_program(_Module(name, options), examples))


class _Module(nn.Module):
    def __init__(self, name: str, options: tuple[float | None, ...]) -> None:
        super().__init__()
        self._name = name
        self._options = options

    def forward(self, *operands: Tensor) -> Tensor:
        return FUNCTIONS[self._name](*operands, *self._options)
