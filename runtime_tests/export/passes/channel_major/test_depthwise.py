"""Depthwise convolutions and both gradients, through bands and through grouped convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.export.passes.channel_major import depthwise
from mobiletl.export.passes.channel_major.depthwise import WIDEST_BAND

TOLERANCE = {
    torch.float32: {"rtol": 1e-4, "atol": 1e-4},  # kernel gradients sum 3 * 33 * 33 terms
    torch.float64: {"rtol": 1e-11, "atol": 1e-11},
}
CHANNELS, BATCH = 4, 3
WIDE = WIDEST_BAND + 1
# height, width: even, odd, one pixel, narrower than a kernel, both sides of the border, wide.
SIZES = [(8, 8), (7, 7), (7, 10), (1, 1), (2, 2), (5, WIDEST_BAND), (5, WIDE), (33, 33)]


def draw(*size: int, seed: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def expected(
    x: Tensor, weight: Tensor, stride: int, padding: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(y, grad of y, grad of x, grad of weight) by autograd, maps as [N,C,H,W]."""
    leaves = [tensor.clone().requires_grad_() for tensor in (x, weight)]
    y = functional.conv2d(*leaves, None, stride, padding, groups=CHANNELS)
    grad = draw(*y.shape, seed=9).to(x.dtype)
    dx, dw = torch.autograd.grad(y, leaves, grad)
    return y.detach(), grad, dx, dw


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [s for s in SIZES if s[0] == s[1] or s == (7, 10)], ids=str)
def test_both_strides(size: tuple[int, int], stride: int, kernel: int) -> None:
    check(size, stride, kernel, torch.float32)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_stride_one_of_any_size(size: tuple[int, int], kernel: int) -> None:
    check(size, 1, kernel, torch.float32)


@pytest.mark.parametrize("stride", [1, 2])
def test_wide_maps_in_double_precision(stride: int) -> None:
    check((33, 33), stride, 3, torch.float64)


def check(size: tuple[int, int], stride: int, kernel: int, dtype: torch.dtype) -> None:
    padding = kernel // 2
    x = draw(BATCH, CHANNELS, *size, seed=0).to(dtype)
    weight = draw(CHANNELS, 1, kernel, kernel, seed=1).to(dtype)
    y, grad, dx, dw = expected(x, weight, stride, padding)
    major, g = x.transpose(0, 1), grad.transpose(0, 1)
    found = (
        depthwise.forward(major, weight, stride, padding).transpose(0, 1),
        depthwise.input_gradient(g, weight, size, stride, padding).transpose(0, 1),
        depthwise.weight_gradient(g, major, kernel, stride, padding),
    )
    for ours, theirs in zip(found, (y, dx, dw), strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])


def operators(width: int, stride: int) -> set[str]:
    """What the three functions call for a map of that width."""
    x, weight = torch.zeros(CHANNELS, BATCH, 8, width), torch.zeros(CHANNELS, 1, 3, 3)

    def run(x: Tensor, weight: Tensor) -> list[Tensor]:
        y = depthwise.forward(x, weight, stride, 1)
        return [
            y,
            depthwise.input_gradient(y, weight, (8, width), stride, 1),
            depthwise.weight_gradient(y, x, 3, stride, 1),
        ]

    graph = torch.fx.experimental.proxy_tensor.make_fx(run)(x, weight)
    return {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize(
    ("width", "stride", "bands"),
    [(7, 1, True), (WIDEST_BAND, 1, True), (WIDE, 1, False), (8, 2, False)],
)
def test_bands_serve_narrow_maps_of_stride_one(width: int, stride: int, bands: bool) -> None:
    found = operators(width, stride)
    assert ("aten.bmm.default" in found) is bands
    assert ("aten.convolution.default" in found) is not bands
