"""Layers of a training step on bytes: a block's three convolutions, the head, a norm.

Letters: N pictures, C channels, H x W a map, R = N H W rows. Maps are [N,H,W,C].

What rounds, and how, is in `chain.py`. Weights, their updates, norms, residuals and the classifier
are float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mobiletl.core.integer.chain import (
    CLAMPED,
    ONE,
    Kernels,
    activations,
    before_expand,
    before_filters,
    before_project,
    centred,
    expand_of_gradients,
    in_steps,
    product,
    projected,
    rounded,
    rows,
    signed_columns,
    signed_rows,
    turned_filters,
)
from mobiletl.core.integer.operators import CENTRE, CLAMPED_SCALE

_OPS: Any = torch.ops.mobiletl


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
        x_kept, x_scale = signed_columns(rows(x))
        kernels = rounded(expand, filters, project)
        steps = in_steps(filter_shift, kernels)
        wide, filtered = activations(x, kernels, expand_shift, steps, stride, padding)
        ctx.save_for_backward(x_kept, x_scale, wide, filtered, *kernels)
        ctx.stride, ctx.padding = stride, padding
        return projected(filtered, kernels)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, the kernels and the shifts."""
        x_kept, x_scale, wide, filtered, *saved = ctx.saved_tensors
        kernels, grad = Kernels(*saved), grads[0]
        # Project.
        right, right_scale = signed_columns(rows(grad))
        d_project = product(rows(filtered).t(), CLAMPED, 0, right, right_scale).t()
        kept, scale = before_project(grad, kernels)
        # Depthwise.
        kept = _OPS.masked_bytes.default(filtered, kept)
        d_filter_shift = _OPS.byte_sums.default(rows(kept).t()) * scale
        shape, stride, padding = kernels.filters.shape, ctx.stride, ctx.padding
        sums = _OPS.byte_kernel_sums.default(wide, kept, shape[2], stride, padding)
        d_filters = (sums * (scale * CLAMPED_SCALE)).view(shape)
        through = before_filters(kept, turned_filters(kernels), stride, padding, *wide.shape[1:3])
        # Expand.
        kept = _OPS.masked_bytes.default(wide, through)
        turned, unit = rows(kept).t(), scale * kernels.reach
        d_expand_shift = _OPS.byte_sums.default(turned) * unit
        d_expand = product(turned, ONE, CENTRE, x_kept, x_scale) * unit.view(-1, 1)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = before_expand(kept, scale, expand_of_gradients(kernels))
        return dx, d_expand, d_expand_shift, d_filters, d_filter_shift, d_project, None, None


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
