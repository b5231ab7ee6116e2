"""Counts of parameters, MACs and FLOPs against published figures and hand arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.flops import component_flops, macs, parameter_count, split
from mobiletl.core.mobilenetv2 import BLOCK_COUNT, InvertedResidual, MobileNetV2

# torchvision's published figures for mobilenet_v2 at 224 px: 3,504,872 parameters, 0.301 G
# multiply-adds; the exact count is the one that other counters report.
PARAMETERS = 3_504_872
MACS = 300_774_272


@pytest.fixture(scope="module")
def network() -> MobileNetV2:
    with torch.device("meta"):
        return MobileNetV2(1000)


def with_trained_top(blocks: int | None, classes: int = 10) -> MobileNetV2:
    """Only the classifier trained for None, else also the head convolution and `blocks` blocks."""
    with torch.device("meta"):
        model = MobileNetV2(classes)
    model.features.requires_grad_(False)
    if blocks is not None:
        for module in list(model.features)[BLOCK_COUNT + 1 - blocks :]:
            module.requires_grad_(True)
    return model


def test_mobilenetv2_has_the_published_size(network: MobileNetV2) -> None:
    assert parameter_count(network) == PARAMETERS
    assert macs(network, (1, 3, 224, 224)) == MACS
    assert macs(network, (4, 3, 224, 224)) == 4 * MACS


def test_counting_leaves_the_module_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert macs(model, (2, 3, 5, 5)) == 2 * 3 * 4 * 5 * 5
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_trained_parameters_count_apart() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5, bias=False))
    model[0].requires_grad_(False)
    assert parameter_count(model) == 16 + 20
    assert parameter_count(model, trained_only=True) == 20


def test_components_add_up_to_the_network(network: MobileNetV2) -> None:
    rows = component_flops(network, 1, 224)
    assert [row.name for row in rows] == [f"features.{i}" for i in range(19)] + ["classifier"]
    assert sum(row.forward for row in rows) == 2 * MACS
    assert sum(row.parameters for row in rows) == PARAMETERS


def test_whole_backward_costs_twice_the_forward_but_for_the_pictures(network: MobileNetV2) -> None:
    rows = component_flops(network, 1, 224)
    assert rows[0].backward == rows[0].forward
    assert all(row.backward == 2 * row.forward for row in rows[1:])


def test_block_costs_what_its_convolutions_cost() -> None:
    block = InvertedResidual(96, 96, stride=1, expansion=6)
    assert macs(block, (1, 96, 7, 7)) == 49 * (96 * 576 + 9 * 576 + 576 * 96)


@pytest.mark.parametrize("blocks", [1, 3, 5])
def test_split_of_trained_blocks(blocks: int) -> None:
    rows = component_flops(with_trained_top(blocks), 8, 224)
    parts = split(rows)
    assert parts.prefix + parts.top == rows
    assert len(parts.top) == blocks + 2
    assert all(row.backward == row.trained_parameters == 0 for row in parts.prefix)
    first, *above = parts.top
    assert all(row.backward == 2 * row.forward for row in above)
    # Nothing below is trained, so the first convolution owes no input gradient.
    expand = {1: 160 * 960, 3: 160 * 960, 5: 96 * 576}[blocks]
    pixels = {1: 49, 3: 49, 5: 196}[blocks]
    assert first.backward == 2 * first.forward - 2 * 8 * pixels * expand


def test_split_of_a_trained_classifier() -> None:
    parts = split(component_flops(with_trained_top(None), 8, 224))
    assert [row.name for row in parts.top] == ["classifier"]
    (classifier,) = parts.top
    assert classifier.forward == classifier.backward == 2 * 8 * 1280 * 10
    assert classifier.trained_parameters == 1281 * 10


def test_split_without_training_is_all_prefix() -> None:
    model = with_trained_top(None).requires_grad_(False)
    parts = split(component_flops(model, 1, 96))
    assert parts.top == ()
    assert not any(row.backward for row in parts.prefix)
