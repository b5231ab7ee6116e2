"""The interface to every runtime: a training step and a prediction as pure functions of a state.

Letters: N pictures, C x h x w the feature map, K classes, D the embedding's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from mobiletl.core.optimizers import Optimizer
from mobiletl.core.transfer import TransferTop, trained_norms


@dataclass(frozen=True)
class Entry:
    """One tensor of the state. `role` is parameter, statistic or slot; of a slot, `owner` is the
    parameter's name, or the empty string for a scalar. `per_class` says whether the first dimension
    is the number of classes.
    """

    name: str
    role: str
    value: Tensor
    owner: str = ""
    per_class: bool = False


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of logits [N,K] and labels i64 [N], a scalar.

    Written as a sum over a one-hot comparison: the library's gathers an index, whose backward pass
    is a scatter that small runtimes lack. Classes are counted by a running sum because `arange`
    would fix K in a traced graph.
    """
    log_probabilities = functional.log_softmax(logits, dim=1)
    classes = torch.ones_like(logits, dtype=torch.int64).cumsum(dim=1) - 1
    chosen = (labels.unsqueeze(1) == classes).to(logits.dtype)
    return -(log_probabilities * chosen).sum(dim=1).mean()


class TrainingStep:
    """Forward, loss, backward and update of a top, as functions of flat tuples of tensors."""

    def __init__(self, top: TransferTop, optimizer: Optimizer) -> None:
        self.top = top
        self.optimizer = optimizer
        self.entries = tuple(_entries(top, optimizer))

    def named(self, role: str) -> dict[str, Tensor]:
        """The entries of one role by name, in order."""
        return {e.name: e.value for e in self.entries if e.role == role}

    @property
    def predict_entries(self) -> tuple[Entry, ...]:
        """The entries that a prediction reads."""
        return tuple(e for e in self.entries if e.role != "slot")

    def train(
        self, state: Sequence[Tensor], h: Tensor, labels: Tensor, lr: Tensor
    ) -> tuple[Tensor, ...]:
        """(state, h [N,C,h,w], labels i64 [N], lr []) -> (loss [], correct i64 [], *new state)."""
        current = dict(zip((e.name for e in self.entries), state, strict=True))
        loss, correct, gradients, statistics = self._differentiate(current, h, labels)
        updated = {**self._update(current, gradients, lr), **statistics}
        return (loss, correct, *(updated[e.name] for e in self.entries))

    def gradients(
        self, state: Sequence[Tensor], h: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its gradient by parameter name."""
        current = dict(zip((e.name for e in self.entries), state, strict=True))
        loss, _, gradients, _ = self._differentiate(current, h, labels)
        return loss, gradients

    def _differentiate(
        self, current: dict[str, Tensor], h: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        parameters = {k: current[k].detach().requires_grad_() for k in self.named("parameter")}
        # Batch norm writes new statistics into the tensors it is given, or others in their place.
        names = self.named("statistic")
        values = {**parameters, **{k: current[k].clone() for k in names}}
        with torch.enable_grad():
            self.top.train()
            logits = functional_call(self.top, values, (h,))
            loss = cross_entropy(logits, labels)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
        correct = (logits.detach().argmax(dim=1) == labels).sum()
        named = dict(zip(parameters, gradients, strict=True))
        return loss.detach(), correct, named, {k: values[k].detach() for k in names}

    def _update(
        self, current: dict[str, Tensor], gradients: dict[str, Tensor], lr: Tensor
    ) -> dict[str, Tensor]:
        prefix = self.optimizer.name
        names = [f"{prefix}.{scalar}" for scalar in self.optimizer.scalars]
        scalars, factors = self.optimizer.prepare(tuple(current[n] for n in names), lr)
        updated = dict(zip(names, scalars, strict=True))
        for name, gradient in gradients.items():
            slot_names = [f"{prefix}.{slot}/{name}" for slot in self.optimizer.slots]
            slots = tuple(current[n] for n in slot_names)
            updated[name], slots = self.optimizer.update(current[name], gradient, slots, factors)
            updated.update(zip(slot_names, slots, strict=True))
        return updated

    def predict(self, state: Sequence[Tensor], h: Tensor) -> tuple[Tensor, Tensor]:
        """(parameters and statistics, h [N,C,h,w]) -> (logits [N,K], embedding [N,D]), norms in
        inference mode.
        """
        names = [f"top.{e.name}" for e in self.predict_entries]
        self.top.eval()
        values = dict(zip(names, state, strict=True))
        results: tuple[Tensor, Tensor] = functional_call(_WithEmbedding(self.top), values, (h,))
        return results


class _WithEmbedding(nn.Module):
    """A feature map [N,C,h,w] to (logits [N,K], embedding [N,D]).

    A module, because `functional_call` gives a state to nothing else.
    """

    def __init__(self, top: TransferTop) -> None:
        super().__init__()
        self.top = top

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.top.embed(h)
        return self.top.classify(embedding), embedding


def _entries(top: TransferTop, optimizer: Optimizer) -> list[Entry]:
    parameters = [
        Entry(
            name,
            "parameter",
            p.detach(),
            per_class=name.rpartition(".")[0] == top.classes_layer,
        )
        for name, p in top.named_parameters()
        if p.requires_grad
    ]
    statistics = [
        Entry(f"{name}.{key}", "statistic", getattr(norm, key).detach())
        for name, norm in trained_norms(top)
        for key in ("running_mean", "running_var")
    ]
    scalars = [
        Entry(f"{optimizer.name}.{scalar}", "slot", torch.zeros(())) for scalar in optimizer.scalars
    ]
    slots = [
        Entry(
            f"{optimizer.name}.{slot}/{p.name}",
            "slot",
            torch.zeros_like(p.value),
            p.name,
            p.per_class,
        )
        for p in parameters
        for slot in optimizer.slots
    ]
    return [*parameters, *statistics, *scalars, *slots]
