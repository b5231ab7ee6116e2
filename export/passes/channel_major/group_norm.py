"""Group norm as sums and products, on channel-major maps [C,N,H,W].

With m the mean and v the biased variance over the channels, rows and columns of a group,
r = 1/sqrt(v + eps), x^ = (x - m) r, and n numbers in a group of a picture:

    y  = x (w r) + (b - m w r)
    dw = sum(g x^), db = sum(g)    over pictures, rows and columns
    dx = w r g - x^ r sum(w g x^)/n - r sum(w g)/n    (sums over the group; Wu and He, 2018)

Sums over rows and columns come first and leave [C,N]; all that a group shares is computed there, so
that each pass over the map is one scale and one shift per channel and picture. Every gradient is an
expression of its own: with the scale frozen nothing is computed for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PIXELS = [2, 3]


def forward(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y [C,N,H,W], mean [G,N], 1/sqrt(variance + eps) [G,N]), weight and bias [C]."""
    mean = _group_mean(torch.mean(x, _PIXELS), groups)
    centred = x - _over_map(_per_channel(mean, x))
    variance = _group_mean(torch.mean(centred * centred, _PIXELS), groups)
    inverse_std = torch.rsqrt(variance + eps)
    scale = _scaled(_per_channel(inverse_std, x), weight)
    shift = -_per_channel(mean, x) * scale
    if bias is not None:
        shift = shift + bias.view(-1, 1)
    return x * _over_map(scale) + _over_map(shift), mean, inverse_std


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    inverse_std: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx [C,N,H,W], dw [C], db [C])."""
    groups = int(mean.shape[0])
    pixels = int(x.shape[2]) * int(x.shape[3])
    inverse = _per_channel(inverse_std, x)
    # Centred first: sum(g x) - m sum(g) would be a small difference of large sums.
    centred = x - _over_map(_per_channel(mean, x))
    sums = torch.sum(grad, _PIXELS)
    products = torch.sum(grad * centred, _PIXELS) * inverse
    share = _group_mean(_scaled(sums, weight), groups) / pixels
    slope = _group_mean(_scaled(products, weight), groups) * inverse_std / pixels
    dx = (
        grad * _over_map(_scaled(inverse, weight))
        - centred * _over_map(inverse * _per_channel(slope, x))
        - _over_map(inverse * _per_channel(share, x))
    )
    return dx, torch.sum(products, [1]), torch.sum(sums, [1])


def _group_mean(value: Tensor, groups: int) -> Tensor:
    """[C,N] -> [G,N]."""
    return torch.mean(value.view(groups, value.shape[0] // groups, -1), [1])


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    """[G,N] -> [C,N], the group's value for each of its channels."""
    groups, batch = value.shape
    each = value.unsqueeze(1).expand(groups, x.shape[0] // groups, batch)
    return each.reshape(x.shape[0], batch)


def _scaled(value: Tensor, weight: Tensor | None) -> Tensor:
    return value if weight is None else value * weight.view(-1, 1)


def _over_map(value: Tensor) -> Tensor:
    """[C,N] -> [C,N,1,1]."""
    return value.unsqueeze(2).unsqueeze(3)
