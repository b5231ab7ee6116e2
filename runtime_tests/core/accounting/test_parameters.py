"""Trained and frozen numbers together are the network's, whatever the method."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.accounting.account import parameter_counts
from mobiletl.core.backbones import FAMILIES, Family
from mobiletl.core.layers.frozen import Shift
from mobiletl.core.layers.shift_norm import ShiftOnlyNorm
from mobiletl.core.methods import METHODS, Method

CLASSES = 5


def norm_channels(*modules: nn.Module) -> int:
    """Channels of the norms that still have a scale of their own."""
    return sum(
        norm.bias.numel()
        for module in modules
        for norm in module.modules()
        if isinstance(norm, (nn.BatchNorm2d, Shift, ShiftOnlyNorm))
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_they_add_up(family: Family, method: Method) -> None:
    with torch.device("meta"):
        plain = family.build(CLASSES, 1.0)
        transfer = method.prepare(family.build(CLASSES, 1.0), None)
    backbone = sum(p.numel() for p in plain.parameters())
    known = {name for name, _ in plain.named_modules()}
    added = sum(
        p.numel()
        for name, p in transfer.top.named_parameters()
        if name.rpartition(".")[0] not in known
    )
    beside = [transfer.top.side, transfer.top.picture_side]
    # A norm that is folded into the convolution before it leaves a shift there and no scale.
    folded = norm_channels(plain) - (
        norm_channels(transfer.prefix, transfer.top) - norm_channels(*beside)
    )
    trained, frozen = parameter_counts(transfer)
    assert trained + frozen == backbone + added - folded
    assert trained == sum(p.numel() for p in transfer.top.parameters() if p.requires_grad)
    assert frozen > 0 or method.name == "ft-all"
