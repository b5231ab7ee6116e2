"""Which values are maps, in what order they are stored, and that kernels stay kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.core.layers import masks
from mobiletl.export.passes.channel_major.layout import (
    Major,
    Spread,
    elementwise,
    expand,
    major,
    plain,
)
from mobiletl.export.passes.channel_major.rewrite import channel_major
from mobiletl.export.tracing.trace import Input, trace
from runtime_tests.support.networks import count, run_traced

aten = torch.ops.aten
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
KERNEL = (3, 4, 2, 2)  # of a convolution from 4 to 3 channels


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_spread_tensor_is_a_map_beside_a_map() -> None:
    small, stored = draw(2, 4, 1, 1), draw(4, 2, 3, 3)
    spread = expand(small, [2, 4, 3, 3])
    assert isinstance(spread, Spread)
    product = elementwise(aten.mul.Tensor)(spread, Major(stored))
    assert isinstance(product, Major)
    assert torch.equal(plain(product), small * stored.transpose(0, 1))


def test_a_spread_tensor_is_a_kernel_beside_a_kernel() -> None:
    small, kernel = draw(3, 1, 1, 1), draw(*KERNEL)
    total = elementwise(aten.add.Tensor)(expand(small, list(KERNEL)), kernel)
    assert torch.equal(total, small + kernel)


def test_numbers_are_applied_before_a_tensor_is_spread() -> None:
    halved = elementwise(aten.div.Scalar)(expand(draw(2, 4, 1, 1), [2, 4, 3, 3]), 2)
    assert isinstance(halved, Spread)
    assert halved.tensor.shape == (2, 4, 1, 1)
    assert torch.equal(major(halved), plain(halved).transpose(0, 1))


def standardised(x: Tensor, w: Tensor) -> Tensor:
    centred = w - torch.mean(w, [1, 2, 3], keepdim=True)
    kernel = centred / torch.sqrt(torch.var(w, [1, 2, 3], keepdim=True) + 1e-3)
    return functional.conv2d(x, kernel)


def fewer_dimensions(x: Tensor, w: Tensor) -> Tensor:
    """A row of the map's width, one number per channel, and one in all."""
    y = functional.conv2d(x, w)
    return y * w[0, 0, 0] + y * w[:, 0, 0, :1, None] - y * w[0, 0, 0, 0]


def reductions(x: Tensor, w: Tensor) -> Tensor:
    y = functional.conv2d(x, w)
    over_pixels, over_all = torch.sum(y, [-1, -2]), torch.mean(y, [0, 2, 3])
    rows = torch.sum(y, [3], keepdim=True) * torch.mean(y, [0], keepdim=True)
    return rows + over_pixels[:, :, None, None] + over_all[None, :, None, None]


def joined(x: Tensor, w: Tensor) -> Tensor:
    y = functional.conv2d(x, w)
    return torch.cat([y, y * 2], 1)[:, 1:4] + torch.cat([y, y])[: y.shape[0]]


def masked(x: Tensor, w: Tensor) -> Tensor:
    """Masks of the step's own input and of a vector, on what flows back to them."""
    packed = masks.pack_mask(x)
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        loss = (functional.conv2d(leaf, w) ** 2).sum()
        (grad,) = torch.autograd.grad(loss, leaf)
    y = masks.apply_mask(packed, grad)
    means = torch.mean(y, (2, 3))
    return y * masks.apply_mask(masks.pack_mask(means), means)[:, :, None, None]


@pytest.mark.parametrize("function", [standardised, fewer_dimensions, reductions, joined, masked])
def test_numbers_stay(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    inputs = [Input("x", ("N", 4, 3, 3)), Input("w", KERNEL)]
    graph = channel_major(trace(lambda x, w: (function(x, w),), inputs, ["y"]))
    x, w = draw(2, 4, 3, 3), draw(*KERNEL)
    torch.testing.assert_close(run_traced(graph, [x, w])["y"], function(x, w), **TOLERANCE)


def test_sums_of_a_map_copy_nothing() -> None:
    inputs = [Input("x", ("N", 4, 3, 3)), Input("w", (3, 4, 1, 1))]
    graph = channel_major(
        trace(lambda x, w: (torch.sum(functional.conv2d(x, w), [0, 2, 3]),), inputs, ["total"])
    )
    assert count(graph, aten.transpose.int) == 1  # of the input
