"""A trained top whose blocks and head compute with bytes; the state is the float top's.

Letters: N pictures, C x h x w a map.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import InvertedResidual
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.integer.frozen import FrozenBlock
from mobiletl.core.integer.layers import Block, Head, RowNorm
from mobiletl.core.layers.shift_norm import ShiftNormActivation, ShiftOnlyNorm
from mobiletl.core.transfer import Transfer, TransferTop

FLOAT32, INT8 = "float32", "int8"
STEPS = (FLOAT32, INT8)
# Bytes where the network has them under the method MEASURED, whose accuracy was compared on many
# sets of pictures (docs/eight-bits.md); else floats.
AUTO, MEASURED = "auto", "mobiletl"


def integer_top(transfer: Transfer) -> TransferTop:
    """A top that shares every tensor with `transfer.top`, under the same names.

    What is frozen and has no form in bytes stays as it is, and so does what stands beside blocks.
    Raises UnsupportedModel where a trained layer has no form, or nothing at all.
    """
    top = transfer.top
    if any(isinstance(module, nn.GroupNorm) for module in top.side.modules()):
        raise _unsupported("group norms beside the blocks")  # PyTorch traces them in another way
    layers = dict(top.features.items())
    in_bytes = {name: _in_bytes(name, layer, [*layers][-1]) for name, layer in layers.items()}
    if not any(layer is not in_bytes[name] for name, layer in layers.items()):
        raise _unsupported("any of the layers")
    integer = TransferTop(in_bytes, dict(top.classifier.items()))
    integer.side, integer.picture_side = top.side, top.picture_side
    return integer


def _in_bytes(name: str, layer: nn.Module, last: str) -> nn.Module:
    if isinstance(layer, ShiftNormActivation) and name == last:
        return IntegerHead(name, layer)
    is_frozen = not any(parameter.requires_grad for parameter in layer.parameters())
    if isinstance(layer, InvertedResidual):
        if not is_frozen:
            return IntegerResidual(name, layer)
        convolutions = _frozen_rows(layer)
        if convolutions is not None:
            return FrozenResidual(layer.residual, FrozenBlock(*convolutions))
    if is_frozen:
        return layer
    raise _unsupported(f"features.{name}, a {type(layer).__name__}")


def _unsupported(what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"--step int8 has no form for {what}, expected blocks of expand, depthwise and project "
        "with ReLU6, as --method mobiletl trains them or repnet freezes them; use --step float32"
    )


def _frozen_rows(block: InvertedResidual) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d] | None:
    """The three convolutions of a frozen block, norms multiplied in; None where it is another."""
    leaves = [m for m in _leaves(block.get_submodule(block.name)) if not _is_nothing(m)]
    convolutions, activations = leaves[::2], leaves[1::2]
    if len(leaves) != 5 or not all(_is_relu6(layer) for layer in activations):
        return None
    expand, filters, project = convolutions
    if not all(isinstance(layer, nn.Conv2d) for layer in convolutions):
        return None
    return expand, filters, project  # type: ignore[return-value]  # looked at just above


def _is_nothing(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Identity)


def _is_relu6(layer: nn.Module) -> bool:
    return getattr(layer, "stands_for", type(layer)) is nn.ReLU6


class FrozenResidual(nn.Module):
    """A frozen inverted residual block on bytes. Maps f32 [N,C,H,W] to [N,C',H',W']."""

    def __init__(self, residual: bool, block: FrozenBlock) -> None:
        super().__init__()
        self.residual = residual
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        y: Tensor = self.block(x)
        return (x + y if self.residual else y).permute(0, 3, 1, 2)


class IntegerResidual(nn.Module):
    """An inverted residual block on bytes. Maps f32 [N,C,H,W] to [N,C',H/stride,W/stride]."""

    def __init__(self, name: str, block: InvertedResidual) -> None:
        super().__init__()
        self.name, self.residual = block.name, block.residual
        body = block.get_submodule(block.name)
        self.add_module(block.name, body)
        layers = _leaves(body)
        kinds = [type(layer) for layer in layers]
        if kinds != [ShiftNormActivation, ShiftNormActivation, nn.Conv2d, nn.BatchNorm2d]:
            found = ", ".join(kind.__name__ for kind in kinds)
            raise _unsupported(f"features.{name}, which is {found}")
        for row in layers[:2]:
            _require_relu6(name, cast(ShiftNormActivation, row))

    def forward(self, x: Tensor) -> Tensor:
        expand, filters, project, norm = _leaves(self.get_submodule(self.name))
        assert isinstance(project, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        x = x.permute(0, 2, 3, 1)
        wide, wide_shift = _folded(cast(ShiftNormActivation, expand))
        kernel, kernel_shift = _folded(cast(ShiftNormActivation, filters))
        conv = cast(nn.Conv2d, cast(ShiftNormActivation, filters)[0])
        y = _apply(
            Block, x, wide.flatten(1), wide_shift, kernel, kernel_shift, project.weight.flatten(1),
            conv.stride[0], int(conv.padding[0]),
        )  # fmt: skip
        y = _normalised(y, norm)
        return (x + y if self.residual else y).permute(0, 3, 1, 2)


class IntegerHead(ShiftNormActivation):
    """The last convolution on bytes, and the mean behind it. f32 [N,C,H,W] to [N,C',1,1]."""

    def __init__(self, name: str, row: ShiftNormActivation) -> None:
        nn.Sequential.__init__(self, *row)
        self.activation_type = row.activation_type
        _require_relu6(name, row)
        conv = row[0]
        assert isinstance(conv, nn.Conv2d)
        if conv.kernel_size != (1, 1) or conv.stride != (1, 1) or conv.groups != 1:
            raise _unsupported(f"features.{name}, a convolution that is not 1x1")

    def forward(self, x: Tensor) -> Tensor:
        kernel, shift = _folded(self)
        mean = _apply(Head, x.permute(0, 2, 3, 1), kernel.flatten(1), shift)
        return mean.view(*mean.shape, 1, 1)


def _require_relu6(name: str, row: ShiftNormActivation) -> None:
    if row.activation_type is not nn.ReLU6:
        raise _unsupported(f"features.{name}, whose activation is {row.activation_type.__name__}")


def _leaves(body: nn.Module) -> list[nn.Module]:
    """The layers of a row in order; a convolution with its frozen norm counts as one."""
    if isinstance(body, ShiftNormActivation) or not isinstance(body, nn.Sequential):
        return [body]
    return [leaf for child in body for leaf in _leaves(child)]


def _folded(row: ShiftNormActivation) -> tuple[Tensor, Tensor]:
    conv, norm = row[0], row[1]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, ShiftOnlyNorm)
    return conv.weight * norm.scale.view(-1, 1, 1, 1), norm.shift


def _normalised(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm of x [N,H,W,C] in training mode; the module gets new running statistics."""
    rows = x.reshape(-1, x.shape[-1])
    y, mean, variance = _apply(RowNorm, rows, norm.weight, norm.bias, norm.eps)
    count, momentum = rows.shape[0], norm.momentum
    assert momentum is not None
    unbiased = variance * count / (count - 1)
    for key, batch in (("running_mean", mean), ("running_var", unbiased)):
        setattr(norm, key, (1.0 - momentum) * getattr(norm, key) + momentum * batch)
    shaped: Tensor = y.view(x.shape)
    return shaped


def _apply(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result
