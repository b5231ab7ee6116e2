"""Optimizers against torch.optim, over several steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.optimizers import OPTIMIZERS, Adam, AdamW, Optimizer, Sgd, find_optimizer

STEPS = 7
LR = 0.05
# float32, of a parameter and of a move of size LR.
TOLERANCE = {"rtol": 1e-6, "atol": 5e-6 * LR}
CASES: list[tuple[Optimizer, type[torch.optim.Optimizer], dict[str, object]]] = [
    (Sgd(), torch.optim.SGD, {"momentum": 0.9}),
    (Sgd(momentum=0.5, weight_decay=0.1), torch.optim.SGD, {"momentum": 0.5, "weight_decay": 0.1}),
    (Adam(), torch.optim.Adam, {}),
    (Adam(weight_decay=0.1), torch.optim.Adam, {"weight_decay": 0.1}),
    (
        Adam(beta1=0.8, beta2=0.9, epsilon=1e-3),
        torch.optim.Adam,
        {"betas": (0.8, 0.9), "eps": 1e-3},
    ),
    (AdamW(), torch.optim.AdamW, {}),
    (
        AdamW(beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.3),
        torch.optim.AdamW,
        {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3},
    ),
]


def gradients() -> list[Tensor]:
    """Sizes that differ by four powers of ten, and zeros: what Adam divides by."""
    torch.manual_seed(0)
    scale = torch.tensor([1e-4, 1e-2, 1.0, 0.0, 1.0])
    return [torch.randn(3, 5) * scale for _ in range(STEPS)]


def ours(optimizer: Optimizer, start: Tensor) -> list[Tensor]:
    """The parameter after each step."""
    parameter, slots = start, tuple(torch.zeros_like(start) for _ in optimizer.slots)
    scalars = tuple(torch.zeros(()) for _ in optimizer.scalars)
    path = []
    for gradient in gradients():
        scalars, factors = optimizer.prepare(scalars, torch.tensor(LR))
        parameter, slots = optimizer.update(parameter, gradient, slots, factors)
        path.append(parameter)
    return path


@pytest.mark.parametrize(("optimizer", "kind", "options"), CASES)
def test_every_step_is_that_of_torch(
    optimizer: Optimizer, kind: type[torch.optim.Optimizer], options: dict[str, object]
) -> None:
    start = torch.linspace(-1, 1, 15).view(3, 5)
    parameter = start.clone().requires_grad_()
    theirs = kind([parameter], lr=LR, **options)  # type: ignore[call-arg]
    for found, gradient in zip(ours(optimizer, start), gradients(), strict=True):
        parameter.grad = gradient.clone()
        theirs.step()
        torch.testing.assert_close(found, parameter.detach(), **TOLERANCE)


def test_rate_may_change_from_step_to_step() -> None:
    optimizer, velocity, parameter = Sgd(), torch.zeros(1), torch.zeros(1)
    for rate in (1.0, 0.1):
        _, factors = optimizer.prepare((), torch.tensor(rate))
        parameter, (velocity,) = optimizer.update(parameter, torch.ones(1), (velocity,), factors)
    # v = 1, then 1.9: p = -1 - 0.19.
    torch.testing.assert_close(parameter, torch.tensor([-1.19]), rtol=0, atol=1e-6)


def test_decoupled_weight_decay_of_0_is_adam() -> None:
    start = torch.linspace(-1, 1, 15).view(3, 5)
    for decoupled, adam in zip(
        ours(AdamW(weight_decay=0.0), start), ours(Adam(), start), strict=True
    ):
        assert torch.equal(decoupled, adam)


def test_table() -> None:
    assert [type(find_optimizer(kind.name)) for kind in OPTIMIZERS] == list(OPTIMIZERS)
    with pytest.raises(UnsupportedModel, match=r"'lion', expected one of: sgd, adam, adamw"):
        find_optimizer("lion")
