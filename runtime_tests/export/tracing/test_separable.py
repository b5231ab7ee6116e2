"""Resizes and poolings as matrices, against PyTorch's own; what keeps a resize whole in a trace."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.passes.channel_major import pooling
from mobiletl.export.tracing.separable import ResizesAsProducts, average, bilinear, separable
from mobiletl.export.tracing.trace import Input, trace
from runtime_tests.support.networks import count, run_traced

# The matrices are float32.
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}
SIDES = st.integers(1, 12)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@settings(max_examples=80, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_bilinear_resize_and_its_gradient(h: int, w: int, new_h: int, new_w: int) -> None:
    leaf = draw(2, 3, h, w).requires_grad_()
    # In double: PyTorch rounds the places it reads at to float32, which alone may be 2.6e-6 off.
    exact = leaf.detach().double().requires_grad_()
    expected = functional.interpolate(
        exact, size=(new_h, new_w), mode="bilinear", align_corners=False
    )
    found = separable(leaf, bilinear(h, new_h), bilinear(w, new_w).t())
    torch.testing.assert_close(found.double(), expected, **TOLERANCE)
    grad = draw(*expected.shape)
    (theirs,) = torch.autograd.grad(expected, exact, grad.double())
    (ours,) = torch.autograd.grad(found, leaf, grad)
    torch.testing.assert_close(ours.double(), theirs, **TOLERANCE)


POOLS = {
    "2x2": nn.AvgPool2d(2, 2),
    "2x2, last window kept": nn.AvgPool2d(2, 2, ceil_mode=True),
    "oblong": nn.AvgPool2d((1, 2), (1, 2)),
    "overlapping": nn.AvgPool2d(3, 2, padding=1),
    "padding not counted": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    "last window kept, with padding": nn.AvgPool2d(3, 2, padding=1, ceil_mode=True),
    "last window kept, padding not counted": nn.AvgPool2d(
        3, 2, padding=1, ceil_mode=True, count_include_pad=False
    ),
}


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (2, 3)], ids=str)
@pytest.mark.parametrize("name", POOLS)
def test_average_pooling_and_its_gradient(name: str, size: tuple[int, int]) -> None:
    pool = POOLS[name]
    leaf = draw(3, 2, *size).requires_grad_()
    expected = pool(leaf)
    kernel, stride, padding = (
        (value, value) if isinstance(value, int) else tuple(value)
        for value in (pool.kernel_size, pool.stride, pool.padding)
    )
    rows, columns = (
        average(size[i], expected.shape[2 + i], kernel[i], stride[i], padding[i],
                pool.count_include_pad)
        for i in (0, 1)
    )  # fmt: skip
    torch.testing.assert_close(separable(leaf, rows, columns.t()), expected, **TOLERANCE)
    grad = draw(*expected.shape)
    (theirs,) = torch.autograd.grad(expected, leaf, grad)
    ours = pooling.input_gradient(
        grad, size, kernel, stride, padding, pool.count_include_pad, divisor=None
    )
    torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_pooling_with_a_divisor_of_its_own_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="divisor_override=3 has no training rule"):
        pooling.input_gradient(draw(1, 1, 1, 1), (2, 2), [2, 2], [2, 2], [0, 0], True, 3)


RESIZES = {
    "size": {"size": (7, 3)},
    "one number": {"size": 6, "align_corners": False},
}
OTHERS = {
    "nearest": {"size": 6, "mode": "nearest"},
    "corners": {"size": 6, "align_corners": True},
    "factor": {"scale_factor": 2.0},
}


@pytest.mark.parametrize("name", RESIZES)
def test_a_traced_resize_is_one_operator(name: str) -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return (functional.interpolate(x, **{"mode": "bilinear", **RESIZES[name]}),)

    graph = trace(function, [Input("x", ("N", 2, 4, 5))], ["y"])
    assert count(graph, torch.ops.mobiletl.separable.default) == 1
    x = draw(3, 2, 4, 5)
    torch.testing.assert_close(run_traced(graph, [x])["y"], function(x)[0], **TOLERANCE)


@pytest.mark.parametrize("name", OTHERS)
def test_other_resizes_stay_pytorchs(name: str) -> None:
    x = draw(1, 2, 4, 4)
    options = {"mode": "bilinear", **OTHERS[name]}
    with ResizesAsProducts():
        found = functional.interpolate(x, **options)
    assert torch.equal(found, functional.interpolate(x, **options))
