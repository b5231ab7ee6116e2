"""Convolutions and their gradients, on channel-major maps [C,N,H,W].

Every gradient is an expression of its own, so one that nobody reads takes its inputs with it:
`aten.convolution_backward` would keep the layer's input alive even when only the gradient of that
input is wanted.

Pointwise (1x1): matrix products over [C, N*H*W], one per group of channels. Depthwise: see
`depthwise.py`. Everything else: see `general.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.passes.channel_major import depthwise, general


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
        """From aten's arguments; UnsupportedModel for what no network here has."""
        square = len(set(stride)) == 1 and len(set(padding)) == 1
        if transposed or not square or set(dilation) != {1}:
            raise UnsupportedModel(
                f"a trained convolution of stride {stride}, padding {padding}, "
                f"dilation {dilation}, transposed={transposed} has no training rule; "
                "train fewer blocks"
            )
        return cls(stride[0], padding[0], groups)

    def is_pointwise(self, weight: Tensor) -> bool:
        """Whether the convolution is a matrix product over the channels of each group."""
        return weight.shape[2:] == (1, 1) and (self.stride, self.padding) == (1, 0)

    def is_depthwise(self, weight: Tensor) -> bool:
        """Whether each channel has a kernel of its own, as wide as high."""
        channels, each, height, width = weight.shape
        return bool(each == 1 and channels == self.groups > 1 and height == width)


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """x [C,N,H,W], weight [C',C/groups,k,k], bias [C'] -> [C',N,H',W']."""
    stride, padding, groups = geometry.stride, geometry.padding, geometry.groups
    if geometry.is_depthwise(weight):
        return depthwise.forward(x, weight, stride, padding, bias)
    if not geometry.is_pointwise(weight):
        return general.forward(x, weight, bias, stride, padding, groups)
    if groups == 1:
        return _product(x, weight, bias)
    flat = torch.bmm(_in_groups(weight, groups), _in_groups(x, groups))
    y = flat.view(weight.shape[0], -1, x.shape[2], x.shape[3])
    return y if bias is None else y + bias.view(-1, 1, 1, 1)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    matrix, flat = weight.flatten(1), x.flatten(1)
    y = matrix @ flat if bias is None else torch.addmm(bias.view(-1, 1), matrix, flat)
    return y.view(weight.shape[0], -1, x.shape[2], x.shape[3])


def _in_groups(x: Tensor, groups: int) -> Tensor:
    """[C, ...] -> [groups, C/groups, everything else]: matrices of a batched product."""
    return x.reshape(groups, x.shape[0] // groups, -1)


def input_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """grad [C',N,H',W'] -> [C,N,H,W]; of x only the shape is read."""
    stride, padding, groups = geometry.stride, geometry.padding, geometry.groups
    size = (int(x.shape[2]), int(x.shape[3]))
    if geometry.is_depthwise(weight):
        return depthwise.input_gradient(grad, weight, size, stride, padding)
    if not geometry.is_pointwise(weight):
        return general.input_gradient(grad, weight, size, stride, padding, groups)
    if groups == 1:
        flat = weight.flatten(1).t() @ grad.flatten(1)
    else:
        flat = torch.bmm(_in_groups(weight, groups).transpose(1, 2), _in_groups(grad, groups))
    return flat.view(x.shape[0], -1, *size)


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """grad [C',N,H',W'], x [C,N,H,W] -> the shape of `weight`, which is all that is read of it."""
    stride, padding, groups = geometry.stride, geometry.padding, geometry.groups
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    if geometry.is_depthwise(weight):
        return depthwise.weight_gradient(grad, x, kernel[0], stride, padding)
    if not geometry.is_pointwise(weight):
        return general.weight_gradient(grad, x, kernel, stride, padding, groups)
    if groups == 1:
        return (grad.flatten(1) @ x.flatten(1).t()).view(weight.shape)
    flat = torch.bmm(_in_groups(grad, groups), _in_groups(x, groups).transpose(1, 2))
    return flat.view(weight.shape)


def bias_gradient(grad: Tensor) -> Tensor:
    """grad [C,N,H,W] -> [C]."""
    return torch.sum(grad, [1, 2, 3])
