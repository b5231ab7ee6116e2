"""Pointwise convolutions as matrix products, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.passes.channel_major import convolution
from mobiletl.export.passes.channel_major.convolution import Geometry

POINTWISE = Geometry(stride=1, padding=0, groups=1)
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 2e-5},
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
}


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (3, 5, 7), (8, 7, 7)])
@pytest.mark.parametrize("biased", [True, False])
def test_pointwise(batch: int, height: int, width: int, biased: bool, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    x, weight, bias = draw(batch, 6, height, width), draw(10, 6, 1, 1), draw(10)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    y = functional.conv2d(x, weight, bias if biased else None)
    grad = draw(*y.shape)
    expected = torch.autograd.grad(y, leaves[: 2 + biased], grad)
    major, g, kernel = x.detach().transpose(0, 1), grad.transpose(0, 1), weight.detach()
    forward = convolution.forward(major, kernel, bias.detach() if biased else None, POINTWISE)
    found = [
        convolution.input_gradient(g, major, kernel, POINTWISE).transpose(0, 1),
        convolution.weight_gradient(g, major, kernel, POINTWISE),
        convolution.bias_gradient(g),
    ]
    torch.testing.assert_close(forward.transpose(0, 1), y.detach(), **TOLERANCE[dtype])
    for ours, theirs in zip(found, expected, strict=False):
        torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])


def test_depthwise_takes_a_bias() -> None:
    x, weight, bias = torch.randn(2, 4, 5, 5), torch.randn(4, 1, 3, 3), torch.randn(4)
    geometry = Geometry(stride=1, padding=1, groups=4)
    found = convolution.forward(x.transpose(0, 1), weight, bias, geometry).transpose(0, 1)
    expected = functional.conv2d(x, weight, bias, padding=1, groups=4)
    torch.testing.assert_close(found, expected, **TOLERANCE[torch.float32])


def test_transposed_convolution_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="transposed=True has no training rule"):
        Geometry.of([1, 1], [0, 0], [1, 1], transposed=True, groups=1)
