"""Optimizers as pure functions, torch.optim's arithmetic to the letter.

An optimizer owns slots (tensors shaped like the parameter they belong to) and may own scalars.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from mobiletl.core.table import find_row


class Optimizer(ABC):
    """One update rule. `slots` and `scalars` are names; all start at zero."""

    name: str
    slots: tuple[str, ...]
    scalars: tuple[str, ...]
    weight_decay: float
    default_lr: float

    @abstractmethod
    def prepare(
        self, scalars: tuple[Tensor, ...], lr: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(new scalars, factors): what is computed once per step and serves every parameter."""

    @abstractmethod
    def update(
        self,
        parameter: Tensor,
        gradient: Tensor,
        slots: tuple[Tensor, ...],
        factors: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(new parameter, new slots); `factors` are those that `prepare` returned."""


@dataclass(frozen=True)
class Sgd(Optimizer):
    """v' = momentum v + g, p' = p - lr v' (torch.optim.SGD without dampening)."""

    momentum: float = 0.9
    weight_decay: float = 0.0
    default_lr: float = 0.002
    name = "sgd"
    slots = ("momentum",)
    scalars = ()

    def prepare(
        self, scalars: tuple[Tensor, ...], lr: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (), (lr,)

    def update(
        self,
        parameter: Tensor,
        gradient: Tensor,
        slots: tuple[Tensor, ...],
        factors: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        (velocity,), (lr,) = slots, factors
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        velocity = self.momentum * velocity + gradient
        return parameter - lr * velocity, (velocity,)


@dataclass(frozen=True)
class Moments(Optimizer):
    """Running means of the gradient and of its square: what Adam and AdamW share. Abstract."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    default_lr: float = 0.0003
    slots = ("m", "v")
    scalars = ("correction1", "correction2")

    def corrections(self, former: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """1 - beta^t of both, from those of the last step.

        They are the state, c' = beta c + (1 - beta), not the step t: taken from a power in float32
        the second one is off by 3e-5 in the first steps.
        """
        first, second = former
        return self.beta1 * first + (1.0 - self.beta1), self.beta2 * second + (1.0 - self.beta2)

    def adapted(
        self,
        parameter: Tensor,
        gradient: Tensor,
        slots: tuple[Tensor, ...],
        factors: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A step along the gradient over the root of its square, both as running means.

        `factors` are the rate over the first correction and the root of the second.
        """
        (m, v), (rate, root_correction) = slots, factors
        m = self.beta1 * m + (1.0 - self.beta1) * gradient
        v = self.beta2 * v + (1.0 - self.beta2) * (gradient * gradient)
        denominator = torch.sqrt(v) / root_correction + self.epsilon
        return parameter - rate * m / denominator, (m, v)


@dataclass(frozen=True)
class Adam(Moments):
    """Adam (Kingma and Ba, 2015, algorithm 1), epsilon outside the root as in torch.optim."""

    weight_decay: float = 0.0
    name = "adam"

    def prepare(
        self, scalars: tuple[Tensor, ...], lr: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        correction1, correction2 = self.corrections(scalars)
        return (correction1, correction2), (lr / correction1, torch.sqrt(correction2))

    def update(
        self,
        parameter: Tensor,
        gradient: Tensor,
        slots: tuple[Tensor, ...],
        factors: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if self.weight_decay:
            gradient = gradient + self.weight_decay * parameter
        return self.adapted(parameter, gradient, slots, factors)


@dataclass(frozen=True)
class AdamW(Moments):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019, algorithm 2): weights
    shrink by lr * weight_decay before the update, the gradient stays what it is.
    """

    weight_decay: float = 0.01
    name = "adamw"

    def prepare(
        self, scalars: tuple[Tensor, ...], lr: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        correction1, correction2 = self.corrections(scalars)
        factors = (lr / correction1, torch.sqrt(correction2), lr * -self.weight_decay + 1.0)
        return (correction1, correction2), factors

    def update(
        self,
        parameter: Tensor,
        gradient: Tensor,
        slots: tuple[Tensor, ...],
        factors: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        *of_adam, kept = factors
        return self.adapted(parameter * kept, gradient, slots, tuple(of_adam))


OPTIMIZERS: tuple[type[Sgd | Adam | AdamW], ...] = (Sgd, Adam, AdamW)


def find_optimizer(name: str) -> Sgd | Adam | AdamW:
    """The optimizer of that name as it is by default; UnsupportedModel lists the known ones."""
    defaults = [optimizer() for optimizer in OPTIMIZERS]
    return find_row(defaults, name, "no optimizer is called")
