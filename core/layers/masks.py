"""Activation masks of one bit per element, and the activations that store nothing else.

MobileTL (Chiang et al., AAAI 2023) runs ReLU, ReLU6 and Hard-Swish exactly forward and takes
`grad * 1[a >= 0]` as their backward, so that of the activation input `a` only that mask has to live
until the backward pass: n/8 bytes instead of 4n. For ReLU that is exact (at 0 any slope will do).
ReLU6's true slope is one bit as well, 1[min(a, 6 - a) >= 0]; hard-swish's is not, it needs `a`.

Layout of a mask: n elements in row-major order (whatever the strides of the tensor are) and
m = ceil(n / 8) bytes. Bit k of byte j belongs to element k*m + j; bits of elements >= n are 0. So a
mask is eight contiguous runs of m elements, and a runtime packs it with eight slices, shifts and
ors. `masks_reference.py` says the same in NumPy.

Values at the edges:

- `a >= 0` is true for 0.0 and for -0.0, false for NaN: nothing flows back through a NaN.
- `apply_mask` multiplies by 0.0 or 1.0, as the formula says: a masked negative gradient is -0.0, a
  masked NaN or infinity is NaN, so that a step gone wrong is seen. (A selection would hide it, and
  costs onnxruntime two more tensors of the gradient's size.)

Both operators are custom ops, so a traced graph holds each of them as a single node
(`torch.ops.mobiletl.pack_mask.default`, `torch.ops.mobiletl.apply_mask.default`), which every
runtime translates in its own way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BITS_PER_BYTE = 8


def packed_bytes(elements: int) -> int:
    """Bytes of the mask of so many elements; takes and gives symbolic integers as well."""
    return (elements + BITS_PER_BYTE - 1) // BITS_PER_BYTE


@torch.library.custom_op("mobiletl::pack_mask", mutates_args=())
def pack_mask(a: Tensor) -> Tensor:
    """The mask of `a >= 0`, uint8[ceil(n / 8)], for `a` of any shape and n elements."""
    size = packed_bytes(a.numel())
    bits = (a >= 0).reshape(-1).view(torch.uint8)
    packed = torch.zeros(size, dtype=torch.uint8, device=a.device)
    for k in range(BITS_PER_BYTE):
        run = bits[k * size : (k + 1) * size]
        packed[: run.numel()] |= run << k
    return packed


@pack_mask.register_fake
def _(a: Tensor) -> Tensor:
    return a.new_empty((packed_bytes(a.numel()),), dtype=torch.uint8)


@torch.library.custom_op("mobiletl::apply_mask", mutates_args=())
def apply_mask(packed: Tensor, grad: Tensor) -> Tensor:
    """`grad` times the mask's bits; contiguous, shape and type of `grad`.

    Raises ValueError if `packed` is no mask of as many elements as `grad` has.
    """
    size = packed_bytes(grad.numel())
    if packed.dtype != torch.uint8 or packed.shape != (size,):
        raise ValueError(
            f"a mask of {packed.dtype}{list(packed.shape)} does not belong to a gradient of "
            f"{grad.numel()} elements, expected torch.uint8[{size}]; pack the tensor that this "
            "gradient is of"
        )
    shifts = torch.arange(BITS_PER_BYTE, dtype=torch.uint8, device=packed.device)
    bits = (packed >> shifts.unsqueeze(1)).bitwise_and_(1).view(torch.bool)
    chosen = bits.reshape(-1)[: grad.numel()].view(grad.shape)
    return grad.contiguous() * chosen


@apply_mask.register_fake
def _(packed: Tensor, grad: Tensor) -> Tensor:
    return grad.new_empty(grad.shape)


class _Masked(torch.autograd.Function):
    """What all activations share: the backward pass and all it needs."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (packed,) = ctx.saved_tensors
        masked: Tensor = torch.ops.mobiletl.apply_mask.default(packed, grads[0])
        return masked


class MaskedReLU(_Masked):
    """max(a, 0) forward, `grad * 1[a >= 0]` backward."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        """Maps `a` of any shape to the same shape; saves its mask only."""
        ctx.save_for_backward(torch.ops.mobiletl.pack_mask.default(a))
        return torch.relu(a)


class MaskedReLU6(_Masked):
    """clamp(a, 0, 6) forward, `grad * 1[a >= 0]` backward (also above 6)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        """Maps `a` of any shape to the same shape; saves its mask only."""
        ctx.save_for_backward(torch.ops.mobiletl.pack_mask.default(a))
        return a.clamp(0.0, 6.0)


class ExactReLU6(_Masked):
    """clamp(a, 0, 6) forward, `grad * 1[0 <= a <= 6]` backward: the true slope, but that autograd
    takes 0 at the two kinks themselves. (For ReLU, `MaskedReLU` is exact in the same sense.)
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        """Maps `a` of any shape to the same shape; saves one bit per element."""
        inside = torch.minimum(a, 6.0 - a)
        ctx.save_for_backward(torch.ops.mobiletl.pack_mask.default(inside))
        return a.clamp(0.0, 6.0)


class MaskedHardSwish(_Masked):
    """a * clamp(a + 3, 0, 6) / 6 forward, `grad * 1[a >= 0]` backward."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        """Maps `a` of any shape to the same shape; saves its mask only."""
        ctx.save_for_backward(torch.ops.mobiletl.pack_mask.default(a))
        return torch.nn.functional.hardswish(a)


def masked_relu(a: Tensor) -> Tensor:
    """`MaskedReLU` as a function."""
    result: Tensor = MaskedReLU.apply(a)  # type: ignore[no-untyped-call]
    return result


def masked_relu6(a: Tensor) -> Tensor:
    """`MaskedReLU6` as a function."""
    result: Tensor = MaskedReLU6.apply(a)  # type: ignore[no-untyped-call]
    return result


def exact_relu6(a: Tensor) -> Tensor:
    """`ExactReLU6` as a function."""
    result: Tensor = ExactReLU6.apply(a)  # type: ignore[no-untyped-call]
    return result


def masked_hardswish(a: Tensor) -> Tensor:
    """`MaskedHardSwish` as a function."""
    result: Tensor = MaskedHardSwish.apply(a)  # type: ignore[no-untyped-call]
    return result
