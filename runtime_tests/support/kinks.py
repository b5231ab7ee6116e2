"""Shifts that keep a batch clear of the kinks of its activations.

Activations and one-bit masks change slope at a few values (ReLU6 at 0 and 6). A pre-activation
within rounding of a kink takes the slope of either side, and a single one of 60,000 moves a
gradient by 1e-4 to 1e-3, in any two programs that round differently. Comparisons of gradients
therefore move shifts a little first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from mobiletl.core.layers.shift_norm import ShiftNormActivation
from mobiletl.core.saved.one_bit import OneBitReLU, OneBitReLU6
from mobiletl.core.transfer import TransferTop

KINKS: dict[type[nn.Module], tuple[float, ...]] = {
    nn.ReLU: (0.0,),
    OneBitReLU: (0.0,),
    nn.ReLU6: (0.0, 6.0),
    OneBitReLU6: (0.0, 6.0),
    nn.Hardswish: (-3.0, 0.0, 3.0),
    nn.Hardsigmoid: (-3.0, 3.0),
}
Kinks = tuple[float, ...]


@dataclass(frozen=True)
class Room:
    """Pre-activations of two programs differ by less than `margin`; shifts move by less than
    `reach`.
    """

    margin: float = 5e-5
    reach: float = 4e-3


def clear_of_kinks(top: TransferTop, h: NDArray[np.float32], room: Room = Room()) -> None:
    """Move the shifts before activations until no pre-activation of the batch is within the margin
    of a kink, layer by layer from below. Training mode; statistics stay as they are.
    """
    hooks = [hook for module in top.modules() for hook in _hooks(module, room)]
    statistics = {name: value.clone() for name, value in top.state_dict().items()}
    with torch.no_grad():
        top(torch.from_numpy(h))
        for name, buffer in top.named_buffers():
            if "running" in name:
                buffer.copy_(statistics[name])
    for hook in hooks:
        hook.remove()


def _hooks(module: nn.Module, room: Room) -> Iterator[RemovableHandle]:
    """One for each activation among the children; the nearest bias before it is what is moved."""
    if isinstance(module, ShiftNormActivation):
        yield module.register_forward_pre_hook(_ClearMasked(KINKS[module.activation_type], room))
        return
    bias: Tensor | None = None
    for child in module.children():
        kinks = KINKS.get(type(child))
        if kinks and bias is not None:
            yield child.register_forward_pre_hook(_Clear(kinks, bias, room))
        own = getattr(child, "bias", None)
        bias = own if isinstance(own, nn.Parameter) else bias


@dataclass(frozen=True)
class _ClearMasked:
    """Before a row runs that calls none of its layers."""

    kinks: Kinks
    room: Room

    def __call__(self, row: nn.Sequential, inputs: tuple[Tensor]) -> None:
        conv, norm, _ = row
        assert isinstance(norm.bias, Tensor)
        norm.bias += _moves(norm(conv(inputs[0])), self.kinks, self.room)


@dataclass(frozen=True)
class _Clear:
    """Before an activation runs."""

    kinks: Kinks
    bias: Tensor
    room: Room

    def __call__(self, _activation: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (a,) = inputs
        moves = _moves(a, self.kinks, self.room)
        self.bias.add_(moves)
        return a + moves.view(1, -1, *[1] * (a.dim() - 2))


def _moves(a: Tensor, kinks: Kinks, room: Room) -> Tensor:
    """What to add to each channel of `a` [N,C,...], [C]."""
    rows = a.transpose(0, 1).flatten(1)
    moves = torch.zeros(len(rows))
    from_kinks = torch.stack([(rows - kink).abs().amin(1) for kink in kinks]).amin(0)
    for channel in torch.nonzero(from_kinks < room.margin).flatten():
        values = rows[channel]
        near = torch.cat([values[(values - kink).abs() < room.reach] - kink for kink in kinks])
        moves[channel] = _smallest_clear_move(near, room)
    return moves


def _smallest_clear_move(near: Tensor, room: Room) -> float:
    """The smallest number that, added to all of `near`, leaves none within the margin of 0; among
    very many values there may be none, and the one that leaves most room is returned.
    """
    furthest = room.reach - room.margin
    moves = torch.arange(-furthest, furthest, room.margin / 2)
    edges = functional.pad(torch.sort(near).values, (1, 1), value=torch.inf)
    above = torch.searchsorted(edges[1:-1], -moves) + 1
    gaps = torch.minimum((edges[above - 1] + moves).abs(), (edges[above] + moves).abs())
    clear = moves[gaps >= room.margin]
    return float(clear[clear.abs().argmin()] if len(clear) else moves[gaps.argmax()])
