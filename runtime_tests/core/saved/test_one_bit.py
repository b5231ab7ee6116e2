"""Exact activations that store one bit per element, against PyTorch's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import SqueezeExcitation
from mobiletl.core.layers.masks import packed_bytes
from mobiletl.core.layers.positive_slope import POSITIVE
from mobiletl.core.saved.one_bit import ONE_BIT, OneBitReLU, OneBitReLU6
from mobiletl.core.saved.policy import keep

Floats = NDArray[np.float32]
# Around the kinks and everywhere else, infinities included.
VALUES = st.floats(width=32, allow_nan=False) | st.floats(-1.0, 7.0, width=32)
ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6), elements=VALUES
)
PAIRS = [
    pytest.param(OneBitReLU(nn.ReLU()), torch.relu, (0.0,), id="relu"),
    pytest.param(OneBitReLU6(nn.ReLU6()), nn.functional.relu6, (0.0, 6.0), id="relu6"),
]


@pytest.mark.parametrize(("ours", "torchs", "kinks"), PAIRS)
@given(a=ARRAYS)
@settings(deadline=None)
def test_values_and_slopes_are_pytorchs_but_at_the_kinks(
    ours: nn.Module, torchs: Callable[[Tensor], Tensor], kinks: tuple[float, ...], a: Floats
) -> None:
    found, expected = (torch.from_numpy(a).requires_grad_() for _ in range(2))
    y, reference = ours(found), torchs(expected)
    assert torch.equal(y, reference)
    y.sum().backward()
    reference.sum().backward()
    assert found.grad is not None
    assert expected.grad is not None
    at_kink = torch.isin(expected, torch.tensor(kinks))
    assert torch.equal(found.grad[~at_kink], expected.grad[~at_kink])
    assert torch.equal(found.grad[at_kink], torch.ones(int(at_kink.sum())))


def test_neighbours_of_six() -> None:
    six = torch.tensor(6.0)
    above, below = (torch.nextafter(six, torch.tensor(v)) for v in (math.inf, -math.inf))
    a = torch.stack([below, six, above, torch.tensor(math.nan)]).requires_grad_()
    OneBitReLU6(nn.ReLU6())(a).sum().backward()
    assert a.grad is not None
    assert a.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "activation", [OneBitReLU(nn.ReLU()), OneBitReLU6(nn.ReLU6())], ids=["relu", "relu6"]
)
def test_one_bit_is_all_that_is_saved(activation: nn.Module) -> None:
    saved: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    a = torch.randn(2, 3, 5, 7, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        activation(a)
    (mask,) = saved
    assert mask.dtype == torch.uint8
    assert mask.shape == (packed_bytes(a.numel()),)


def test_activations_are_replaced_wherever_they_are() -> None:
    network = nn.Sequential(nn.ReLU6(), nn.Hardswish(), nn.Sequential(SqueezeExcitation(8, 8)))
    keep(network, ONE_BIT)
    kinds = [type(m) for m in network.modules() if not list(m.children())]
    assert kinds == [OneBitReLU6, nn.Hardswish, nn.Conv2d, OneBitReLU, nn.Conv2d, nn.Hardsigmoid]
    assert set(ONE_BIT.stand_ins) == {nn.ReLU, nn.ReLU6, *POSITIVE.values()}
