"""A frozen block on bytes that gradients pass through: what Rep-Net has below its side modules.

Letters: N pictures, C channels, H x W a map, E expanded channels, k a kernel's side. Maps are
[N,H,W,C].

The kernels are rounded once, when the step is exported, and are constants of bytes. Of both
activations one bit for each element is kept, 1[a > 0]; nothing else is needed for the gradient of
the block's input. Rounding is that of `layers.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mobiletl.core.integer.layers import (
    CLAMPED,
    ONE,
    REACH,
    centred,
    product,
    rows,
    signed_rows,
    spread,
)
from mobiletl.core.integer.operators import CENTRE, CLAMPED_SCALE, KERNEL_STEPS, TINIEST_KERNEL

_OPS: Any = torch.ops.mobiletl


class FrozenBlock(nn.Module):
    """Expand, depthwise, project with ReLU6 between them. Maps f32 [N,H,W,C] to [N,H',W',C']."""

    def __init__(self, expand: nn.Conv2d, filters: nn.Conv2d, project: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.padding = filters.stride[0], int(filters.padding[0])
        with torch.no_grad():
            self.expand = signed_rows(expand.weight.flatten(1))
            self.project = signed_rows(project.weight.flatten(1))
            flat = filters.weight.flatten(1)
            kept, scale = _OPS.signed_bytes.default(flat, 0, KERNEL_STEPS, TINIEST_KERNEL)
            self.filters = (kept.view(filters.weight.shape), scale)
            self.shifts = [_bias(layer) for layer in (expand, filters, project)]
            self.filter_steps = self.shifts[1] / (scale * CLAMPED_SCALE)
            reach = (flat.abs().sum(1) * REACH).clamp(min=TINIEST_KERNEL)
            self.through = scale / reach
            self.down = _OPS.rescaled_bytes.default(self.expand[0], self.expand[1] * reach)
            self.turned = self.filters[0].flip((2, 3)).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Through.apply(x, self)  # type: ignore[no-untyped-call]
        return y


def _bias(layer: nn.Conv2d) -> Tensor:
    """A folded norm's shift."""
    return torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach().clone()


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: FrozenBlock) -> Tensor:
        batch, height, width, _ = x.shape
        left, scale = centred(rows(x))
        kept, kernel_scale = block.expand
        a = product(left, scale, CENTRE, kept.t(), kernel_scale, block.shifts[0])
        wide = _OPS.clamped_bytes.default(a).view(batch, height, width, -1)
        kept, kernel_scale = block.filters
        filtered = _OPS.byte_depthwise.default(
            wide, 0, kept, kernel_scale, block.filter_steps, block.stride, block.padding
        )
        ctx.save_for_backward(_OPS.pack_bits.default(wide), _OPS.pack_bits.default(filtered))
        ctx.block, ctx.wide, ctx.filtered = block, wide.shape, filtered.shape
        kept, kernel_scale = block.project
        y = product(rows(filtered), CLAMPED, 0, kept.t(), kernel_scale, block.shifts[2])
        return y.view(*filtered.shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        block: FrozenBlock = ctx.block
        wide_bits, filtered_bits = ctx.saved_tensors
        kept, kernel_scale = block.project
        left, scale = centred(rows(grads[0]) * kernel_scale)
        bytes_, scale = centred(product(left, scale, CENTRE, kept, ONE))
        bytes_ = _OPS.masked_by_bits.default(filtered_bits, bytes_.view(ctx.filtered))
        _, height, width, _ = ctx.wide
        bytes_ = _OPS.byte_depthwise.default(
            spread(bytes_, block.stride, height, width), CENTRE, block.turned, block.through, None,
            1, block.turned.shape[2] - 1 - block.padding,
        )  # fmt: skip
        bytes_ = _OPS.masked_by_bits.default(wide_bits, bytes_)
        right, common = block.down
        dx = product(rows(bytes_), scale, CENTRE, right, common)
        return dx.view(*ctx.wide[:3], -1), None
