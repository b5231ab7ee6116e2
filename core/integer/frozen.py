"""A frozen block on bytes that gradients pass through: what Rep-Net has below its side modules.

The kernels are rounded once, when the step is exported, and are constants of bytes. Of both
activations one bit for each element is kept, 1[a > 0]; nothing else is needed for the gradient of
the block's input. Letters and rounding are those of `chain.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mobiletl.core.integer.chain import (
    activations,
    before_expand,
    before_filters,
    before_project,
    expand_of_gradients,
    in_steps,
    projected,
    rounded,
    turned_filters,
)

_OPS: Any = torch.ops.mobiletl


class FrozenBlock(nn.Module):
    """Expand, depthwise, project with ReLU6 between them. Maps f32 [N,H,W,C] to [N,H',W',C']."""

    def __init__(self, expand: nn.Conv2d, filters: nn.Conv2d, project: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.padding = filters.stride[0], int(filters.padding[0])
        with torch.no_grad():
            self.kernels = rounded(
                expand.weight.flatten(1), filters.weight, project.weight.flatten(1)
            )
            self.expand_shift, self.project_shift = _bias(expand), _bias(project)
            self.steps = in_steps(_bias(filters), self.kernels)
            self.turned = turned_filters(self.kernels)
            self.expand = expand_of_gradients(self.kernels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Through.apply(x, self)  # type: ignore[no-untyped-call]
        return y


def _bias(layer: nn.Conv2d) -> Tensor:
    """A folded norm's shift."""
    return torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach().clone()


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: FrozenBlock) -> Tensor:
        wide, filtered = activations(
            x, block.kernels, block.expand_shift, block.steps, block.stride, block.padding
        )
        ctx.save_for_backward(_OPS.pack_bits.default(wide), _OPS.pack_bits.default(filtered))
        ctx.block, ctx.size = block, wide.shape[1:3]
        return projected(filtered, block.kernels, block.project_shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        block: FrozenBlock = ctx.block
        wide_bits, filtered_bits = ctx.saved_tensors
        kept, scale = before_project(grads[0], block.kernels)
        kept = _OPS.masked_by_bits.default(filtered_bits, kept)
        kept = before_filters(kept, block.turned, block.stride, block.padding, *ctx.size)
        kept = _OPS.masked_by_bits.default(wide_bits, kept)
        return before_expand(kept, scale, block.expand), None
