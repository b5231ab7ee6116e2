"""Group norm as sums and products, against autograd; what a frozen scale leaves uncomputed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from mobiletl.export.passes.channel_major import group_norm

# float64; with one number in a group the variance is 0 and eps alone divides.
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
EPS = 1e-3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize(("batch", "size"), [(1, (5, 3)), (5, (1, 1)), (3, (7, 7))])
def test_forward_and_gradients(
    batch: int, size: tuple[int, int], groups: int, affine: bool
) -> None:
    x, weight, bias = draw(batch, 8, *size), draw(8, seed=1), draw(8, seed=2)
    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    scale_and_shift = leaves[1:] if affine else [None, None]
    y = functional.group_norm(x, groups, *scale_and_shift, eps=EPS)
    grad = draw(*y.shape, seed=3)
    expected = torch.autograd.grad(y, leaves if affine else [x], grad)
    w, b = (weight.detach(), bias.detach()) if affine else (None, None)
    major = x.detach().transpose(0, 1)
    found, mean, inverse_std = group_norm.forward(major, w, b, groups, EPS)
    assert mean.shape == inverse_std.shape == (groups, batch)
    torch.testing.assert_close(found.transpose(0, 1), y.detach(), **TOLERANCE)
    dx, *others = group_norm.backward(grad.transpose(0, 1), major, w, mean, inverse_std)
    for ours, theirs in zip([dx.transpose(0, 1), *others], expected, strict=False):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_gradient_of_the_shift_reads_nothing_but_the_gradient() -> None:
    """With weights, scale and everything below frozen nothing of the map is stored."""

    def shift_alone(grad: Tensor, x: Tensor, mean: Tensor, inverse_std: Tensor) -> Tensor:
        return group_norm.backward(grad, x, None, mean, inverse_std)[2]

    graph = make_fx(shift_alone)(draw(8, 2, 3, 3), draw(8, 2, 3, 3), draw(2, 2), draw(2, 2)).graph
    graph.eliminate_dead_code()
    grad, *others = graph.find_nodes(op="placeholder")
    assert grad.users
    assert not any(node.users for node in others)
