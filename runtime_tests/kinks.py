"""Shifts that keep a batch clear of the kinks of its activations.

ReLU6 and the one-bit mask change slope at 0 and 6. A pre-activation within rounding of a kink takes
the slope of either side, and a single one of 60,000 moves a gradient by 1e-4 to 1e-3, in any two
programs that round differently. Comparisons of gradients therefore move shifts a little first.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.inverted_residual import ConvNormActivation
from mobiletl.core.layers import ShiftNormActivation
from mobiletl.core.transfer import TransferTop

# Pre-activations differ by less than MARGIN between programs; shifts move by less than REACH.
MARGIN = 5e-5
REACH = 4e-3


def clear_of_kinks(top: TransferTop, h: NDArray[np.float32]) -> None:
    """Move the shifts before ReLU6 until no pre-activation of the batch is within `MARGIN` of 0
    or 6, layer by layer from below.
    """
    hooks = [
        module.register_forward_pre_hook(_clear_layer)
        for module in top.modules()
        if isinstance(module, ConvNormActivation | ShiftNormActivation)
    ]
    statistics = {name: value.clone() for name, value in top.state_dict().items()}
    with torch.no_grad():
        top(torch.from_numpy(h))
        for name, buffer in top.named_buffers():
            if "running" in name:
                buffer.copy_(statistics[name])
    for hook in hooks:
        hook.remove()


def _clear_layer(module: nn.Module, inputs: tuple[Tensor]) -> None:
    conv, norm, *_ = module.children()
    if isinstance(norm, nn.BatchNorm2d):
        a = functional.batch_norm(
            conv(inputs[0]), None, None, norm.weight, norm.bias, training=True, eps=norm.eps
        )
    else:
        a = norm(conv(inputs[0]))
    rows = a.transpose(0, 1).flatten(1)
    assert isinstance(norm.bias, Tensor)
    from_kinks = torch.minimum(rows.abs(), (rows - 6.0).abs()).amin(1)
    for channel in torch.nonzero(from_kinks < MARGIN).flatten():
        values = rows[channel]
        near = torch.cat([values[(values - kink).abs() < REACH] - kink for kink in (0.0, 6.0)])
        norm.bias[channel] += _smallest_clear_move(near)


def _smallest_clear_move(near: Tensor) -> float:
    """The smallest number that, added to all of `near`, leaves none within MARGIN of 0; among very
    many values there may be none, and the one that leaves most room is returned.
    """
    moves = torch.arange(MARGIN - REACH, REACH - MARGIN, MARGIN / 2)
    edges = functional.pad(torch.sort(near).values, (1, 1), value=torch.inf)
    above = torch.searchsorted(edges[1:-1], -moves) + 1
    gaps = torch.minimum((edges[above - 1] + moves).abs(), (edges[above] + moves).abs())
    clear = moves[gaps >= MARGIN]
    return float(clear[clear.abs().argmin()] if len(clear) else moves[gaps.argmax()])
