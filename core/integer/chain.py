"""What trained and frozen blocks on bytes share: their rounded kernels, the way through and back.

Letters: N pictures, C channels of the input, E expanded, C' of the result, H x W a map, k a
kernel's side, R = N H W rows. Maps are [N,H,W,C].

Forward, every activation is a byte of 6/255: ReLU6 is what rounding does at both ends. Backward, a
gradient is a centred byte with one scale for the whole map. Where a gradient is the left operand of
a product by a kernel, the kernel's scale of each channel is multiplied into it first, so that the
bytes of the forward product serve the backward one as well.

One rounding goes beyond those of operands: a depthwise convolution's gradient with respect to its
input is written in bytes at once. Its largest value is not known beforehand. It is at most the
largest byte times a kernel's sum of magnitudes; `REACH` of that bound is what 127 stands for, and
what lies beyond is cut (docs/eight-bits.md has the measurement).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.core.integer.operators import (
    CENTRE,
    CLAMPED_SCALE,
    KERNEL_STEPS,
    SIGNED_STEPS,
    TINIEST,
    TINIEST_KERNEL,
)

REACH = 0.25
# Tensors made here and not while a step is traced, so that a graph holds them as constants.
CLAMPED = torch.tensor(CLAMPED_SCALE)
ONE = torch.tensor([1.0])
_TINIEST_REACH = torch.tensor([TINIEST_KERNEL])
_OPS: Any = torch.ops.mobiletl


def centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """x f32 as centred bytes, and their one scale, []."""
    pair: tuple[Tensor, Tensor] = _OPS.centred_bytes.default(x)
    return pair


def signed_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x f32 [A,B] as signed bytes, and the scale of each row, [A]."""
    pair: tuple[Tensor, Tensor] = _OPS.signed_bytes.default(x, 0, SIGNED_STEPS, TINIEST)
    return pair


def signed_columns(x: Tensor) -> tuple[Tensor, Tensor]:
    """x f32 [A,B] as signed bytes, and the scale of each column, [B]."""
    pair: tuple[Tensor, Tensor] = _OPS.signed_bytes.default(x, 1, SIGNED_STEPS, TINIEST)
    return pair


def product(
    left: Tensor,
    left_scale: Tensor,
    centre: int,
    right: Tensor,
    right_scale: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """The scaled product of left [M,K] and right [K,N], f32 [M,N] (`byte_product`)."""
    y: Tensor = _OPS.byte_product.default(left, left_scale, centre, right, right_scale, bias)
    return y


def rows(x: Tensor) -> Tensor:
    """[..., C] -> [R,C]."""
    return x.reshape(-1, x.shape[-1])


class Kernels(NamedTuple):
    """A block's kernels in bytes, and the scale of each channel that a kernel gives."""

    expand: Tensor
    """s8 [E,C]"""
    expand_scale: Tensor
    filters: Tensor
    """s8 [E,1,k,k]"""
    filter_scale: Tensor
    project: Tensor
    """s8 [C',E]"""
    project_scale: Tensor
    reach: Tensor
    """f32 [E], the most that a filter makes of a gradient of 1, but for what is cut."""


def rounded(expand: Tensor, filters: Tensor, project: Tensor) -> Kernels:
    """Kernels f32 [E,C], [E,1,k,k] and [C',E] in bytes."""
    flat = filters.flatten(1)
    kept, scale = _OPS.signed_bytes.default(flat, 0, KERNEL_STEPS, TINIEST_KERNEL)
    reach = torch.maximum(flat.abs().sum(1) * REACH, _TINIEST_REACH)
    return Kernels(
        *signed_rows(expand), kept.view(filters.shape), scale, *signed_rows(project), reach
    )


def turned_filters(kernels: Kernels) -> tuple[Tensor, Tensor]:
    """The filters that a gradient passes, and the scale of each."""
    return kernels.filters.flip((2, 3)), kernels.filter_scale / kernels.reach


def expand_of_gradients(kernels: Kernels) -> tuple[Tensor, Tensor]:
    """The kernel s8 [E,C] that a gradient passes after the filters, and its one scale, []."""
    pair: tuple[Tensor, Tensor] = _OPS.rescaled_bytes.default(
        kernels.expand, kernels.expand_scale * kernels.reach
    )
    return pair


def in_steps(shift: Tensor, kernels: Kernels) -> Tensor:
    """A shift f32 [E] behind the filters, in the steps of their sums."""
    return shift / (kernels.filter_scale * CLAMPED_SCALE)


def activations(
    x: Tensor, kernels: Kernels, expand_shift: Tensor, steps: Tensor, stride: int, padding: int
) -> tuple[Tensor, Tensor]:
    """Both activations of x f32 [N,H,W,C]: u8 [N,H,W,E] and, behind the filters, [N,H',W',E].

    `steps` are `in_steps`.
    """
    left, scale = centred(rows(x))
    a = product(left, scale, CENTRE, kernels.expand.t(), kernels.expand_scale, expand_shift)
    wide = _OPS.clamped_bytes.default(a).view(*x.shape[:3], -1)
    filtered = _OPS.byte_depthwise.default(
        wide, 0, kernels.filters, kernels.filter_scale, steps, stride, padding
    )
    return wide, filtered


def projected(filtered: Tensor, kernels: Kernels, shift: Tensor | None = None) -> Tensor:
    """u8 [N,H',W',E] -> f32 [N,H',W',C']."""
    y = product(rows(filtered), CLAMPED, 0, kernels.project.t(), kernels.project_scale, shift)
    return y.view(*filtered.shape[:3], -1)


def before_project(grad: Tensor, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """The gradient of `projected`'s input, before any mask: centred bytes and their scale, [].

    `grad` is f32 [N,H',W',C'].
    """
    left, scale = centred(rows(grad) * kernels.project_scale)
    kept, unit = centred(product(left, scale, CENTRE, kernels.project, ONE))
    return kept.view(*grad.shape[:3], -1), unit


def before_filters(
    kept: Tensor, turned: tuple[Tensor, Tensor], stride: int, padding: int, height: int, width: int
) -> Tensor:
    """The gradient of the filters' input [N,height,width,E], before any mask, in bytes whose
    scale is that of `kept` times `Kernels.reach`. `turned` is `turned_filters`.
    """
    filters, scale = turned
    back: Tensor = _OPS.byte_depthwise.default(
        spread(kept, stride, height, width), CENTRE, filters, scale, None, 1,
        filters.shape[2] - 1 - padding,
    )  # fmt: skip
    return back


def before_expand(kept: Tensor, unit: Tensor, expand: tuple[Tensor, Tensor]) -> Tensor:
    """The gradient of the block's input, f32 [N,H,W,C].

    `kept` is a masked `before_filters`, `unit` the scale of what that was made of, `expand`
    `expand_of_gradients`.
    """
    right, scale = expand
    return product(rows(kept), unit, CENTRE, right, scale).view(*kept.shape[:3], -1)


def spread(grad: Tensor, stride: int, height: int, width: int) -> Tensor:
    """A centred [N,H',W',C] with the byte of 0 between its pixels, as a stride leaves them out:
    [N,height,width,C].
    """
    if stride == 1:
        return grad
    batch, rows, columns, channels = grad.shape
    apart = functional.pad(
        grad.view(batch, rows, 1, columns, 1, channels),
        (0, 0, 0, stride - 1, 0, 0, 0, stride - 1),
        value=CENTRE,
    ).view(batch, rows * stride, columns * stride, channels)
    return apart[:, :height, :width]
