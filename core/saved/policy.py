"""What a backward pass keeps of the forward pass: a policy, apart from what a method trains.

A method says which gradients are computed; a policy says in what form the numbers wait that these
gradients are computed from. It replaces layers by stand-ins that compute the same and keep less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

# Takes the layer it stands in for.
StandInMaker = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Saved:
    """One row. `stand_ins` maps a type of layer to what takes its place; others stay."""

    name: str
    summary: str
    stand_ins: Mapping[type[nn.Module], StandInMaker] = field(default_factory=dict, hash=False)


class StandIn(nn.Module):
    """A layer that keeps less than the one it stands for, whose values and gradients it has.

    The accounts read both attributes: `saved_bits` are kept for each element of its input.
    """

    stands_for: ClassVar[type[nn.Module]]
    saved_bits: ClassVar[int]

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        assert type(original) is self.stands_for


class KeepsItsOwn(nn.Module):
    """A module that a method puts into a block; what it keeps is not the policy's business."""


def keep(module: nn.Module, policy: Saved) -> None:
    """Let the layers inside `module` keep what `policy` says."""
    for name, child in module.named_children():
        if isinstance(child, KeepsItsOwn):
            continue
        make = policy.stand_ins.get(type(child))
        if make is None:
            keep(child, policy)
        else:
            setattr(module, name, make(child))
