"""Batch norm taken apart, against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.export.passes.channel_major import batch_norm

EPS, MOMENTUM = 1e-5, 0.1
TOLERANCE = {
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-11},
}
SHAPES = [(2, 3, 4, 5), (1, 3, 2, 2), (8, 3, 7, 7), (2, 1, 1, 1)]


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x [N,C,H,W] with a mean far from 0, weight, bias, grad like x)."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    return draw(*shape) * 2 + 3, draw(shape[1]), draw(shape[1]), draw(*shape)


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_and_statistics(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight, bias, _ = inputs(shape, dtype)
    old_mean, old_var = torch.full_like(bias, 0.5), torch.full_like(bias, 2.0)
    new_mean, new_var = old_mean.clone(), old_var.clone()
    expected = functional.batch_norm(
        x, new_mean, new_var, weight, bias, training=True, momentum=MOMENTUM, eps=EPS
    )
    major = x.transpose(0, 1)
    y, mean, variance, _ = batch_norm.forward(major, weight, bias, EPS)
    unbiased = batch_norm.unbiased(variance, major)
    for found, wanted in (
        (y.transpose(0, 1), expected),
        (batch_norm.running(old_mean, mean, MOMENTUM), new_mean),
        (batch_norm.running(old_var, unbiased, MOMENTUM), new_var),
    ):
        torch.testing.assert_close(found, wanted, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight, bias, grad = inputs(shape, dtype)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    y = functional.batch_norm(x, None, None, weight, bias, training=True, eps=EPS)
    expected = torch.autograd.grad(y, leaves, grad)
    major = x.detach().transpose(0, 1)
    _, mean, _, inverse_std = batch_norm.forward(major, weight, bias, EPS)
    dx, dw, db = batch_norm.backward(grad.transpose(0, 1), major, weight, mean, inverse_std)
    tolerance = TOLERANCE[dtype]
    # Two values to a channel: the gradient of x is 0 but for rounding, at 1/sqrt(variance) = 1.
    for found, wanted in zip((dx.transpose(0, 1), dw, db), expected, strict=True):
        torch.testing.assert_close(found, wanted, **tolerance)


def test_offset_input_keeps_its_digits() -> None:
    """A mean a thousand times the spread, as no sum of squares would survive in float32."""
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(1)) + 1000
    exact = x.double()
    _, _, variance, _ = batch_norm.forward(x.transpose(0, 1), torch.ones(3), torch.zeros(3), EPS)
    expected = exact.transpose(0, 1).flatten(1).var(1, unbiased=False).float()
    torch.testing.assert_close(variance, expected, rtol=1e-4, atol=0)
