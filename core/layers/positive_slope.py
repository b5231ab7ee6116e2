"""Activations that MobileTL trains with the slope 1[a >= 0] (Chiang et al., AAAI 2023).

Forward they are exact. Backward the gradient passes where the input was not negative: for ReLU that
is its slope, for ReLU6 and hard swish an approximation that needs one bit. These keep the whole
input, in float32; what keeps less stands in for them (core/saved/).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _PassPositive(torch.autograd.Function):
    """`forward(a)` forward, `grad * 1[a >= 0]` backward, by the operators of the one-bit form: so
    every runtime has them, and the bits are the same.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        """Maps `a` of any shape to the same shape; saves it."""
        ctx.save_for_backward(a)
        return forward(a)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (a,) = ctx.saved_tensors
        packed = torch.ops.mobiletl.pack_mask.default(a)
        masked: Tensor = torch.ops.mobiletl.apply_mask.default(packed, grads[0])
        return masked, None


def _pass_positive(a: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
    result: Tensor = _PassPositive.apply(a, forward)  # type: ignore[no-untyped-call]
    return result


class PositiveReLU(nn.Module):
    """max(x, 0). Maps any shape to the same."""

    def forward(self, x: Tensor) -> Tensor:
        return _pass_positive(x, torch.relu)


class PositiveReLU6(nn.Module):
    """clamp(x, 0, 6). Maps any shape to the same."""

    def forward(self, x: Tensor) -> Tensor:
        return _pass_positive(x, lambda a: a.clamp(0.0, 6.0))


class PositiveHardswish(nn.Module):
    """x clamp(x + 3, 0, 6) / 6. Maps any shape to the same."""

    def forward(self, x: Tensor) -> Tensor:
        return _pass_positive(x, functional.hardswish)


# An activation and the one that MobileTL trains in its place.
POSITIVE: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.ReLU: PositiveReLU,
    nn.ReLU6: PositiveReLU6,
    nn.Hardswish: PositiveHardswish,
}
