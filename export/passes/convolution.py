"""Convolutions of inverted residual blocks and their gradients, on channel-major maps [C,N,H,W].

Every gradient is an expression of its own, so one that nobody reads takes its inputs with it:
`aten.convolution_backward` would keep the layer's input alive even when only the gradient of that
input is wanted.

Pointwise (1x1): plain matrix products over [C, N*H*W]. Depthwise: see `depthwise.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.passes import depthwise


@dataclass(frozen=True)
class Geometry:
    """What a convolution is, apart from its tensors."""

    stride: int
    padding: int
    groups: int

    @classmethod
    def of(
        cls,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        transposed: bool,
        groups: int,
    ) -> Geometry:
        """From aten's arguments; UnsupportedModel for what no inverted residual block has."""
        square = len(set(stride)) == 1 and len(set(padding)) == 1
        if transposed or not square or set(dilation) != {1}:
            raise UnsupportedModel(
                f"a trained convolution of stride {stride}, padding {padding}, "
                f"dilation {dilation}, transposed={transposed} has no training rule; "
                "train fewer blocks"
            )
        return cls(stride[0], padding[0], groups)

    def is_pointwise(self, weight: Tensor) -> bool:
        """Whether the convolution is a matrix product over channels."""
        return (
            weight.shape[2:] == (1, 1)
            and self.groups == 1
            and (self.stride, self.padding) == (1, 0)
        )

    def is_depthwise(self, weight: Tensor) -> bool:
        """Whether each channel has a kernel of its own."""
        return bool(weight.shape[1] == 1 and weight.shape[0] == self.groups)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """x [C,N,H,W], weight [C',C/groups,k,k], bias [C'] -> [C',N,H',W']."""
    if geometry.is_pointwise(weight):
        matrix = weight.flatten(1)
        flat = x.flatten(1)
        y = matrix @ flat if bias is None else torch.addmm(bias.view(-1, 1), matrix, flat)
        return y.view(weight.shape[0], -1, x.shape[2], x.shape[3])
    _require_depthwise(weight, geometry)
    y = depthwise.forward(x, weight, geometry.stride, geometry.padding)
    return y if bias is None else y + bias.view(-1, 1, 1, 1)


def input_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """grad [C',N,H',W'] -> [C,N,H,W]; of x only the shape is read."""
    if geometry.is_pointwise(weight):
        flat = weight.flatten(1).t() @ grad.flatten(1)
        return flat.view(weight.shape[1], -1, x.shape[2], x.shape[3])
    _require_depthwise(weight, geometry)
    size = (int(x.shape[2]), int(x.shape[3]))
    return depthwise.input_gradient(grad, weight, size, geometry.stride, geometry.padding)


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """grad [C',N,H',W'], x [C,N,H,W] -> the shape of `weight`, which is all that is read of it."""
    if geometry.is_pointwise(weight):
        return (grad.flatten(1) @ x.flatten(1).t()).view(weight.shape)
    _require_depthwise(weight, geometry)
    return depthwise.weight_gradient(grad, x, weight.shape[2], geometry.stride, geometry.padding)


def bias_gradient(grad: Tensor) -> Tensor:
    """grad [C,N,H,W] -> [C]."""
    return torch.sum(grad, [1, 2, 3])


def _require_depthwise(weight: Tensor, geometry: Geometry) -> None:
    if not geometry.is_depthwise(weight):
        raise UnsupportedModel(
            f"a trained convolution with kernel {list(weight.shape)} in {geometry.groups} groups "
            "has no training rule, expected 1x1 or depthwise; train fewer blocks"
        )
