"""What a backward pass keeps of the forward pass: a policy, apart from what a method trains.

A method says which gradients are computed; a policy says in what form the numbers wait that these
gradients are computed from. It replaces layers by stand-ins that compute the same and keep less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

FLOAT_BITS = 32
KeptBits = Callable[[tuple[int, ...]], int]
# Takes the layer it stands in for.
StandInMaker = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Saved:
    """One row. `stand_ins` maps a type of layer to what takes its place; others stay.

    `keep_inputs` is given the whole top and lets its layers keep what they need of their inputs in
    another form than floats; it says so to the accounts by `mark_kept_bits`.
    """

    name: str
    summary: str
    stand_ins: Mapping[type[nn.Module], StandInMaker] = field(default_factory=dict, hash=False)
    keep_inputs: Callable[[nn.Module], None] | None = None


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


def mark_kept_bits(module: nn.Module, bits: KeptBits) -> None:
    """Say what `module` keeps of a map that it is called with, in bits, by the map's shape."""
    module.kept_bits = bits  # type: ignore[assignment]  # a plain attribute, no tensor


def kept_bits(module: nn.Module, shape: tuple[int, ...]) -> int:
    """How many bits `module` keeps of a map of that shape, where it keeps the map at all."""
    bits: KeptBits | None = getattr(module, "kept_bits", None)
    return FLOAT_BITS * math.prod(shape) if bits is None else bits(shape)


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
