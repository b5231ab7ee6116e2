"""The layers of a network in the order they run, with the shapes they see: no number is computed.

Letters: N pictures, C channels, H x W the height and width of a map.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import InvertedResidual
from mobiletl.core.layers.frozen import ShiftedSequential
from mobiletl.core.layers.shift_norm import ShiftNormActivation
from mobiletl.core.transfer import TransferTop


@dataclass(frozen=True)
class Visit:
    """One module that ran. `needs_input_grad` says whether anything below it is trained, and
    `held_elements` how large the inputs are that residual blocks around it keep for their sum.
    `joins` is None but for what a TransferTop has beside a layer: then the shape of that layer's
    output, to which its own is resized and added. `reads_given` says that its input is that of the
    whole walk.
    """

    name: str
    module: nn.Module
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    needs_input_grad: bool
    held_elements: int
    joins: tuple[int, ...] | None = None
    reads_given: bool = False

    @property
    def in_elements(self) -> int:
        """Elements of the input, all pictures together."""
        return math.prod(self.in_shape)

    @property
    def out_elements(self) -> int:
        """Elements of the output, all pictures together."""
        return math.prod(self.out_shape)


def visits(module: nn.Module, x: Tensor) -> tuple[tuple[Visit, ...], Tensor]:
    """(every submodule in the order they end, the output) for an input `x` on the meta device."""
    watched = copy.deepcopy(module).to("meta")
    _take_apart(watched)
    walk = _Walk(_joined_layers(watched), x)
    for name, part in watched.named_modules():
        part.register_forward_pre_hook(walk.enter)
        part.register_forward_hook(walk.leave(name))
    with torch.enable_grad():
        y: Tensor = watched(x)
    return tuple(walk.found), y


def _take_apart(module: nn.Module) -> None:
    """Let rows that hand a shift or a scale to the convolution before it run layer by layer: hooks
    see calls of modules only.
    """
    for name, child in module.named_children():
        _take_apart(child)
        if isinstance(child, (ShiftedSequential, ShiftNormActivation)):
            setattr(module, name, nn.Sequential(OrderedDict(child.named_children())))


def _joined_layers(module: nn.Module) -> dict[nn.Module, nn.Module]:
    """What stands beside a layer of a TransferTop -> that layer."""
    return {
        beside: top.features[name]
        for top in module.modules()
        if isinstance(top, TransferTop)
        for row in (top.side, top.picture_side)
        for name, beside in row.items()
    }


class _Walk:
    def __init__(self, joined: dict[nn.Module, nn.Module], given: Tensor) -> None:
        self._given = given
        self.found: list[Visit] = []
        self._joined = joined
        self._out_shapes: dict[nn.Module, tuple[int, ...]] = {}
        self._held = [0]

    def enter(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        holds = isinstance(module, InvertedResidual) and module.residual
        self._held.append(self._held[-1] + (inputs[0].numel() if holds else 0))

    def leave(self, name: str) -> _Leave:
        return _Leave(self, name)

    def note(self, name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        held = self._held.pop()
        shapes = (tuple(x.shape), tuple(y.shape))
        layer = self._joined.get(module)
        joins = None if layer is None else self._out_shapes[layer]
        self._out_shapes[module] = shapes[1]
        given = x is self._given
        self.found.append(Visit(name, module, *shapes, x.requires_grad, held, joins, given))


@dataclass(frozen=True)
class _Leave:
    walk: _Walk
    name: str

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        self.walk.note(self.name, module, inputs[0], y)
