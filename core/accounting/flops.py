"""Parameters and multiply-adds, counted on shapes: no number is ever computed.

Convolutions and linear layers are counted; norms, activations, additions, the loss and the
optimizer are not. So `ft-blocks` and `mobiletl`, which train the same convolutions, cost the same
here. `account.py` counts all work, layer by layer, as the papers do.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mobiletl.core.errors import UnsupportedModel

FLOPS_PER_MAC = 2


def parameter_count(module: nn.Module, trained_only: bool = False) -> int:
    """Elements of all parameters, or of those that require a gradient; buffers do not count."""
    return sum(
        parameter.numel()
        for parameter in module.parameters()
        if parameter.requires_grad or not trained_only
    )


def macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one forward pass, in inference mode, over an input of that shape."""
    shapes_only = _without_data(module)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes_only(torch.empty(input_shape, device="meta"))
    return int(counter.get_total_flops()) // FLOPS_PER_MAC


def training_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one forward and backward pass over an input that needs no gradient.

    Every parameter that requires a gradient gets one; updates and losses are not counted.
    """
    shapes_only = _without_data(module)
    x = torch.empty(input_shape, device="meta")
    with FlopCounterMode(display=False) as forward:
        y = shapes_only(x)
    flops = int(forward.get_total_flops()) + _backward_flops(shapes_only, x, y)
    return flops // FLOPS_PER_MAC


def _without_data(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no storage, in inference mode: one picture will do."""
    return copy.deepcopy(module).to("meta").eval()


def _backward_flops(module: nn.Module, x: Tensor, y: Tensor) -> int:
    if not y.requires_grad:
        return 0
    wanted = [tensor for tensor in (x, *module.parameters()) if tensor.requires_grad]
    formulas = {torch.ops.aten.convolution_backward: _convolution_backward_flops}
    with FlopCounterMode(display=False, custom_mapping=formulas) as backward:
        torch.autograd.grad(y, wanted, torch.empty_like(y))
    return int(backward.get_total_flops())


def _convolution_backward_flops(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *others: Any, **outputs: Any
) -> int:
    """Each wanted gradient costs as much as the forward pass; the first arguments are shapes.

    Replaces PyTorch's formula, which forgets the groups in a depthwise weight gradient
    (pytorch/pytorch#183405).
    """
    *_, transposed, _, _, output_mask = others
    if transposed:
        raise UnsupportedModel(
            "a transposed convolution has no formula for its backward pass; train fewer blocks"
        )
    wanted = int(sum(output_mask[:2]))
    return FLOPS_PER_MAC * math.prod(grad) * math.prod(weight[1:]) * wanted
