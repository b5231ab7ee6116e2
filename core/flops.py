"""Parameters, multiply-adds and FLOPs, counted on shapes: no number is ever computed.

Convolutions and linear layers are counted, at two FLOPs per multiply-add (MAC); norms, activations,
additions, the loss and the optimizer are not. So `ft-blocks` and `mobiletl`, which train the same
convolutions, cost the same here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.mobilenetv2 import MobileNetV2

FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class ComponentFlops:
    """One part of a network: its parameters, and the FLOPs of one step for the whole batch."""

    name: str
    parameters: int
    trained_parameters: int
    forward: int
    backward: int


@dataclass(frozen=True)
class Split:
    """Components below the first one with a trained parameter, and from there on."""

    prefix: tuple[ComponentFlops, ...]
    top: tuple[ComponentFlops, ...]


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


def component_flops(model: MobileNetV2, batch: int, resolution: int) -> tuple[ComponentFlops, ...]:
    """FLOPs of one training step for each entry of `features`, and for the classifier.

    What is trained is read from `requires_grad`. A backward pass costs a weight gradient where
    the weight is trained, and an input gradient where anything trained lies below the layer.
    """
    shapes_only = _without_data(model)
    x = torch.empty((batch, 3, resolution, resolution), device="meta")
    rows: list[ComponentFlops] = []
    for name, module in _components(shapes_only):
        if name == "classifier":
            x = x.mean(dim=(2, 3))
        x = x.detach().requires_grad_(any(row.trained_parameters for row in rows))
        with FlopCounterMode(display=False) as forward:
            y = module(x)
        rows.append(
            ComponentFlops(
                name,
                parameter_count(module),
                parameter_count(module, trained_only=True),
                int(forward.get_total_flops()),
                _backward_flops(module, x, y),
            )
        )
        x = y
    return tuple(rows)


def split(components: Iterable[ComponentFlops]) -> Split:
    """Frozen prefix and trained top; the top is empty if nothing is trained."""
    rows = tuple(components)
    trained = (index for index, row in enumerate(rows) if row.trained_parameters)
    first = next(trained, len(rows))
    return Split(rows[:first], rows[first:])


def _without_data(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no storage, in inference mode: one picture will do."""
    return copy.deepcopy(module).to("meta").eval()


def _components(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.get_submodule("features").named_children():
        yield f"features.{name}", module
    yield "classifier", model.get_submodule("classifier")


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
