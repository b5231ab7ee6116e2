"""One frozen number more or less is another network; what is trained, or a name, is not."""

from __future__ import annotations

import pytest
import torch

from mobiletl.core.backbones import find_backbone
from mobiletl.core.methods import find_method
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.export.writing.frozen import frozen_digest


def prepared(method: str = "mobiletl") -> tuple[Transfer, set[str]]:
    torch.manual_seed(0)
    transfer = find_method(method).prepare(find_backbone("mbv2-0.35").build(3), 1, resolution=64)
    entries = TrainingStep(transfer.top, Sgd()).entries
    return transfer, {entry.name for entry in entries}


def test_the_same_network_has_the_same_digest() -> None:
    digests = {frozen_digest(*prepared()) for _ in range(2)}
    assert len(digests) == 1
    assert len(digests.pop()) == 64


@pytest.mark.parametrize("part", ["prefix", "top"])
def test_one_frozen_number_changes_it(part: str) -> None:
    transfer, trained = prepared()
    before = frozen_digest(transfer, trained)
    module = transfer.prefix if part == "prefix" else transfer.top
    frozen = [
        tensor
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and (part == "prefix" or name not in trained)
    ]
    assert frozen, "a block's inner norms keep their scales"
    with torch.no_grad():
        frozen[-1].view(-1)[0] += 1e-3
    assert frozen_digest(transfer, trained) != before


def test_trained_numbers_do_not() -> None:
    transfer, trained = prepared()
    before = frozen_digest(transfer, trained)
    with torch.no_grad():
        state = transfer.top.state_dict()
        for name in trained & state.keys():
            state[name].add_(1)
    assert frozen_digest(transfer, trained) == before
