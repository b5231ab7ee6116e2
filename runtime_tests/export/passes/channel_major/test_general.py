"""Dense and grouped convolutions and all gradients, on channel-major maps, against autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mobiletl.export.passes.channel_major import convolution
from mobiletl.export.passes.channel_major.convolution import Geometry

# Sums of up to 3 * 9 * 9 * 25 products, in float64.
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


def check(
    batch: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    kernel: tuple[int, int],
    geometry: Geometry,
) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = draw(batch, channels[0], *size)
    weight = draw(channels[1], channels[0] // geometry.groups, *kernel)
    bias = draw(channels[1])
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    y = functional.conv2d(*leaves, geometry.stride, geometry.padding, groups=geometry.groups)
    grad = draw(*y.shape)
    expected = torch.autograd.grad(y, leaves, grad)
    major, g, w = x.detach().transpose(0, 1), grad.transpose(0, 1), weight.detach()
    found = (
        convolution.forward(major, w, bias.detach(), geometry).transpose(0, 1),
        convolution.input_gradient(g, major, w, geometry).transpose(0, 1),
        convolution.weight_gradient(g, major, w, geometry),
        convolution.bias_gradient(g),
    )
    for ours, theirs in zip(found, (y.detach(), *expected), strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


# channels in and out, size, kernel, stride, padding, groups
CASES = {
    "stem": ((3, 8), (16, 16), (3, 3), Geometry(2, 1, 1)),
    "odd stem": ((3, 8), (15, 17), (3, 3), Geometry(2, 1, 1)),
    "lite residual": ((8, 8), (7, 7), (5, 5), Geometry(1, 2, 2)),
    "strided lite residual": ((8, 8), (7, 7), (5, 5), Geometry(2, 2, 2)),
    "one pixel": ((8, 8), (1, 1), (3, 3), Geometry(1, 1, 2)),
    "grouped 1x1": ((8, 12), (3, 5), (1, 1), Geometry(1, 0, 2)),
    "strided 1x1": ((8, 12), (4, 5), (1, 1), Geometry(2, 0, 1)),
    "channel multiplier": ((4, 8), (5, 5), (3, 3), Geometry(1, 1, 4)),
    "depthwise, oblong kernel": ((4, 4), (5, 6), (3, 5), Geometry(1, 1, 4)),
    "depthwise, strided, oblong map": ((4, 4), (7, 6), (3, 3), Geometry(2, 1, 4)),
    "left-over pixels": ((4, 6), (6, 6), (3, 3), Geometry(2, 0, 1)),
    "one channel": ((1, 1), (4, 4), (1, 1), Geometry(1, 0, 1)),
}


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(name: str, batch: int) -> None:
    check(batch, *CASES[name])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_forward_and_gradients_of_any_convolution(data: st.DataObject) -> None:
    def number(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    groups, kernel = number(1, 3), number(1, 5)
    geometry = Geometry(number(1, 2), number(0, kernel // 2), groups)
    smallest = max(1, kernel - 2 * geometry.padding)
    channels = (groups * number(1, 3), groups * number(1, 3))
    size = (number(smallest, 9), number(smallest, 9))
    check(number(1, 3), channels, size, (kernel, kernel), geometry)
