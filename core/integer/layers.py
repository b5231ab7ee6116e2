"""Layers of a training step on bytes: a block's three convolutions, the head, a norm.

Letters: N pictures, C channels, H x W a map, R = N H W rows. Maps are [N,H,W,C].

Forward, every activation is a byte of 6/255: ReLU6 is what rounding does at both ends. Backward, a
gradient is a centred byte with one scale for the whole map. Where a gradient is the left operand of
a product by a kernel, the kernel's scale of each channel is multiplied into it first, so that the
bytes of the forward product serve the backward one as well. Weights, their updates, norms,
residuals and the classifier are float32.

One rounding goes beyond those of operands: a depthwise convolution's gradient with respect to its
input is written in bytes at once. Its largest value is not known beforehand. It is at most the
largest byte times a kernel's sum of magnitudes; `REACH` of that bound is what 127 stands for, and
what lies beyond is cut (docs/eight-bits.md has the measurement).
"""

from __future__ import annotations

from typing import Any

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


class Block(torch.autograd.Function):
    """Expand, depthwise, project of an inverted residual block; both activations are ReLU6 with the
    slope 1[a > 0].

    x f32 [N,H,W,C]; kernels f32 [E,C], [E,1,k,k], [C',E], norms multiplied in; shifts f32 [E].
    Gives f32 [N,H',W',C'].
    """

    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917  every tensor that has a gradient is one
        ctx: Any,
        x: Tensor,
        expand: Tensor,
        expand_shift: Tensor,
        filters: Tensor,
        filter_shift: Tensor,
        project: Tensor,
        stride: int,
        padding: int,
    ) -> Tensor:
        """See the class."""
        batch, height, width, _ = x.shape
        pixels = rows(x)
        x_kept, x_scale = signed_columns(pixels)
        left, left_scale = centred(pixels)
        expand_kept, expand_scale = signed_rows(expand)
        a = product(left, left_scale, CENTRE, expand_kept.t(), expand_scale, expand_shift)
        wide = _OPS.clamped_bytes.default(a).view(batch, height, width, -1)
        flat = filters.flatten(1)
        filter_kept, filter_scale = _OPS.signed_bytes.default(flat, 0, KERNEL_STEPS, TINIEST_KERNEL)
        filter_kept = filter_kept.view(filters.shape)
        shift = filter_shift / (filter_scale * CLAMPED_SCALE)
        filtered = _OPS.byte_depthwise.default(
            wide, 0, filter_kept, filter_scale, shift, stride, padding
        )
        project_kept, project_scale = signed_rows(project)
        y = product(rows(filtered), CLAMPED, 0, project_kept.t(), project_scale)
        # The most that each filter makes of a gradient of 1, but for what is cut.
        reach = torch.maximum(flat.abs().sum(1) * REACH, _TINIEST_REACH)
        ctx.save_for_backward(
            x_kept, x_scale, wide, filtered, reach,
            expand_kept, expand_scale, filter_kept, filter_scale, project_kept, project_scale,
        )  # fmt: skip
        ctx.stride, ctx.padding = stride, padding
        return y.view(*filtered.shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, the kernels and the shifts."""
        (
            x_kept, x_scale, wide, filtered, reach,
            expand_kept, expand_scale, filter_kept, filter_scale, project_kept, project_scale,
        ) = ctx.saved_tensors  # fmt: skip
        grad = rows(grads[0])
        # Project.
        right, right_scale = signed_columns(grad)
        d_project = product(rows(filtered).t(), CLAMPED, 0, right, right_scale).t()
        left, left_scale = centred(grad * project_scale)
        d_filtered = product(left, left_scale, CENTRE, project_kept, ONE)
        # Depthwise.
        kept, scale = centred(d_filtered)
        kept = _OPS.masked_bytes.default(filtered, kept.view(filtered.shape))
        d_filter_shift = _OPS.byte_sums.default(rows(kept).t()) * scale
        side = filter_kept.shape[2]
        sums = _OPS.byte_kernel_sums.default(wide, kept, side, ctx.stride, ctx.padding)
        d_filters = (sums * (scale * CLAMPED_SCALE)).view(filter_kept.shape)
        unit = scale * reach
        through = _OPS.byte_depthwise.default(
            spread(kept, ctx.stride, wide.shape[1], wide.shape[2]),
            CENTRE,
            filter_kept.flip((2, 3)),
            filter_scale / reach,
            None,
            1,
            side - 1 - ctx.padding,
        )
        # Expand.
        kept = rows(_OPS.masked_bytes.default(wide, through))
        turned = kept.t()
        d_expand_shift = _OPS.byte_sums.default(turned) * unit
        d_expand = product(turned, ONE, CENTRE, x_kept, x_scale) * unit.view(-1, 1)
        dx = None
        if ctx.needs_input_grad[0]:
            right, right_scale = _OPS.rescaled_bytes.default(expand_kept, expand_scale * unit)
            dx = product(kept, ONE, CENTRE, right, right_scale).view(*wide.shape[:3], -1)
        return dx, d_expand, d_expand_shift, d_filters, d_filter_shift, d_project, None, None


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


class Head(torch.autograd.Function):
    """A 1x1 convolution, ReLU6 with the slope 1[a > 0], and the mean over all pixels.

    x f32 [N,H,W,C], kernel f32 [C',C], norm multiplied in, shift f32 [C'] -> f32 [N,C'].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, shift: Tensor) -> Tensor:
        """See the class."""
        batch, height, width, _ = x.shape
        pixels = rows(x)
        x_kept, x_scale = signed_columns(pixels)
        left, left_scale = centred(pixels)
        kernel_kept, kernel_scale = signed_rows(kernel)
        a = product(left, left_scale, CENTRE, kernel_kept.t(), kernel_scale, shift)
        wide = _OPS.clamped_bytes.default(a).view(batch, height * width, -1)
        ctx.save_for_backward(x_kept, x_scale, wide, kernel_kept, kernel_scale)
        ctx.size = (height, width)
        return torch.mean(wide.float(), 1) * CLAMPED_SCALE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, the kernel and the shift."""
        x_kept, x_scale, wide, kernel_kept, kernel_scale = ctx.saved_tensors
        height, width = ctx.size
        small, unit = centred(grads[0] * (kernel_scale / (height * width)))
        kept = rows(_OPS.masked_bytes.default(wide, small.unsqueeze(1)))
        per_row = unit / kernel_scale
        turned = kept.t()
        d_shift = _OPS.byte_sums.default(turned) * per_row
        d_kernel = product(turned, ONE, CENTRE, x_kept, x_scale) * per_row.view(-1, 1)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = product(kept, unit, CENTRE, kernel_kept, ONE)
            dx = dx.view(wide.shape[0], height, width, -1)
        return dx, d_kernel, d_shift


class RowNorm(torch.autograd.Function):
    """Batch norm in training mode over the rows of x f32 [R,C], as float sums and products.

    weight and bias f32 [C] -> (y [R,C], mean [C], biased variance [C]). The formulas are those of
    Ioffe and Szegedy, 2015, section 3; the last two results pass no gradient on.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        mean = torch.mean(x, 0)
        centred = x - mean
        variance = torch.mean(centred * centred, 0)
        inverse_std = torch.rsqrt(variance + eps)
        scale = weight * inverse_std
        ctx.save_for_backward(x, weight, mean, inverse_std)
        ctx.mark_non_differentiable(mean, variance)
        return x * scale + (bias - mean * scale), mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight and bias."""
        x, weight, mean, inverse_std = ctx.saved_tensors
        grad, count = grads[0], x.shape[0]
        # Centred first: sum(g x) - m sum(g) would be a small difference of large sums.
        centred = x - mean
        d_bias = torch.sum(grad, 0)
        d_weight = torch.sum(grad * centred, 0) * inverse_std
        scale = weight * inverse_std
        slope = -(scale * inverse_std * d_weight) / count
        shift = -(scale * d_bias) / count
        return grad * scale + centred * slope + shift, d_weight, d_bias, None
