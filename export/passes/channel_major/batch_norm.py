"""Batch norm in training mode as sums and products, on channel-major maps [C,N,H,W].

torch.onnx writes a training-mode batch norm as an inference one, so it is taken apart here. With m
the mean and v the biased variance over N, H, W, r = 1/sqrt(v + eps), x^ = (x - m) r:

    y  = x (w r) + (b - m w r)
    dw = sum(g x^), db = sum(g)
    dx = w r (g - db/n - x^ dw/n)    with n = N H W    (Ioffe and Szegedy, 2015, section 3)

Both maps are written as one scale and one shift per channel, so each pass reads x once.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MAP = [1, 2, 3]


def _per_channel(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(y [C,N,H,W], mean [C], biased variance [C], 1/sqrt(variance + eps) [C])."""
    mean = torch.mean(x, _MAP)
    centred = x - _per_channel(mean)
    variance = torch.mean(centred * centred, _MAP)
    inverse_std = torch.rsqrt(variance + eps)
    scale = weight * inverse_std
    y = x * _per_channel(scale) + _per_channel(bias - mean * scale)
    return y, mean, variance, inverse_std


def running(old: Tensor, batch: Tensor, momentum: float) -> Tensor:
    """The new running statistic."""
    return (1.0 - momentum) * old + momentum * batch


def unbiased(variance: Tensor, x: Tensor) -> Tensor:
    """The variance with n - 1 in place of n = N H W, as PyTorch keeps it. x is [C,N,H,W]."""
    n = x.shape[1] * x.shape[2] * x.shape[3]
    return variance * n / (n - 1)


def backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse_std: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx [C,N,H,W], dw [C], db [C])."""
    # Centred first: sum(g x) - m sum(g) would be a small difference of large sums.
    centred = x - _per_channel(mean)
    db = torch.sum(grad, _MAP)
    dw = torch.sum(grad * centred, _MAP) * inverse_std
    n = x.shape[1] * x.shape[2] * x.shape[3]
    scale = weight * inverse_std
    slope = -(scale * inverse_std * dw) / n
    shift = -(scale * db) / n
    dx = grad * _per_channel(scale) + centred * _per_channel(slope) + _per_channel(shift)
    return dx, dw, db
