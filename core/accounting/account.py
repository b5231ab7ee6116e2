"""Paper accounting: parameters, FLOPs and stored activations of a step, from shapes alone.

Nothing here is measured, and a process needs more: what a bundle needs is in its memory plan.
Figures of this kind never share a column with planned or measured ones. 1 MB is 1e6 bytes. The
rules are in `rules.py`; docs/accounting.md sets the results beside the published figures
and explains where they part.

"Training memory" is the papers' sum: the largest, over the layers in forward order, of what the
trained layers below have stored, the layer's workspace and the input that a residual block around
it holds, plus 4 bytes for a trained parameter and 1 for a frozen one. Gradients and optimizer slots
are not in it. It is the published profiler of TinyTL (Cai et al., NeurIPS 2020), with one
difference: that one stores a bit for every ReLU and ReLU6, ours two for a ReLU6 trained exactly
(as Figure 1 of MobileTL has it) and none where no gradient passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mobiletl.core.accounting.rules import work_of
from mobiletl.core.backbones import Backbone
from mobiletl.core.layer_walk import Visit, visits
from mobiletl.core.layers.frozen import Shift
from mobiletl.core.layers.shift_norm import ShiftOnlyNorm
from mobiletl.core.methods import Method
from mobiletl.core.saved import Saved
from mobiletl.core.transfer import Transfer

FLOAT_BYTES = 4
TRAINED_BYTES, FROZEN_BYTES = 4, 1


@dataclass(frozen=True)
class LayerCost:
    """One layer and the whole batch. `workspace_bytes` includes what residual blocks hold; FLOPs
    include 2 for each of the MACs. `component` is the kind of layer.
    """

    name: str
    component: str
    stored_bytes: int
    workspace_bytes: int
    forward_flops: int
    backward_flops: int
    forward_macs: int
    backward_macs: int


@dataclass(frozen=True)
class Account:
    """The layers of the prefix and of the top in forward order, and the parameters of both."""

    prefix: tuple[LayerCost, ...]
    top: tuple[LayerCost, ...]
    trained_parameters: int
    frozen_parameters: int

    @property
    def layers(self) -> tuple[LayerCost, ...]:
        """All of them."""
        return self.prefix + self.top

    @property
    def forward_flops(self) -> int:
        """Of the whole network."""
        return sum(layer.forward_flops for layer in self.layers)

    @property
    def backward_flops(self) -> int:
        """Of the top: below it there is no backward pass."""
        return sum(layer.backward_flops for layer in self.layers)

    @property
    def forward_macs(self) -> int:
        """Multiply-adds of convolutions and linear layers, of the whole network."""
        return sum(layer.forward_macs for layer in self.layers)

    @property
    def backward_macs(self) -> int:
        """Multiply-adds of the gradients of convolutions and linear layers."""
        return sum(layer.backward_macs for layer in self.layers)

    @property
    def stored_bytes(self) -> int:
        """Activations that live from the forward to the backward pass."""
        return sum(layer.stored_bytes for layer in self.layers)

    @property
    def peak_activation_bytes(self) -> int:
        """The papers' peak activation; see the top of this file."""
        peak = stored = 0
        for layer in self.layers:
            peak = max(peak, stored + layer.workspace_bytes)
            stored += layer.stored_bytes
        return peak

    @property
    def training_memory_bytes(self) -> int:
        """The papers' training memory; see the top of this file."""
        parameters = TRAINED_BYTES * self.trained_parameters + FROZEN_BYTES * self.frozen_parameters
        return self.peak_activation_bytes + parameters


def account(
    backbone: Backbone,
    method: Method,
    blocks: int | None,
    classes: int,
    batch: int,
    resolution: int,
    saved: Saved | None = None,
) -> Account:
    """The account of a backbone under a method; raises UnsupportedModel as `method.prepare` does.

    Frozen norms are counted, as the papers do, though an exported prefix has them folded.
    """
    # With numbers in it, random ones: a person's own method may look at them.
    with torch.random.fork_rng(devices=[]):
        model = backbone.build(classes)
        transfer = method.prepare(model, blocks, fold=False, resolution=resolution, saved=saved)
    return account_of(transfer, (batch, 3, resolution, resolution))


def account_of(transfer: Transfer, input_shape: tuple[int, ...]) -> Account:
    """The account of a network cut in two, for an input [N,C,H,W] of its prefix."""
    x = torch.empty(input_shape, device="meta")
    below, h = visits(transfer.prefix, x)
    above, _ = visits(transfer.top, h)
    trained, frozen = parameter_counts(transfer)
    return Account(_costs(below, "prefix."), _costs(above, ""), trained, frozen)


def parameter_counts(transfer: Transfer) -> tuple[int, int]:
    """How many numbers are trained and how many are frozen, in the prefix and in the top.

    A frozen norm that was folded into the convolution before it is part of that one's numbers.
    """
    both = (transfer.prefix, transfer.top)
    trained = sum(p.numel() for m in both for p in m.parameters() if p.requires_grad)
    frozen = sum(p.numel() for m in both for p in m.parameters() if not p.requires_grad)
    return trained, frozen + _frozen_scales(transfer.top)


def _costs(found: tuple[Visit, ...], prefix: str) -> tuple[LayerCost, ...]:
    return tuple(
        LayerCost(
            f"{prefix}{visit.name}{work.part}",
            work.component,
            -(-work.stored_bits // 8),
            FLOAT_BYTES * (work.workspace + visit.held_elements),
            work.forward,
            work.backward,
            work.forward_macs,
            work.backward_macs,
        )
        for visit in found
        for work in work_of(visit)
    )


def _frozen_scales(top: nn.Module) -> int:
    """Scales of norms whose shift alone is trained: buffers, or part of the kernel before them."""
    norms = [module for module in top.modules() if isinstance(module, (Shift, ShiftOnlyNorm))]
    return sum(norm.bias.numel() for norm in norms)
