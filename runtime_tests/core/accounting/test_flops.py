"""Counts of parameters, MACs and FLOPs against published figures and hand arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.accounting.flops import macs, parameter_count, training_macs
from mobiletl.core.backbones.inverted_residual import Block, mobilenetv2_block
from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.core.methods import find_method

# torchvision's published figures for mobilenet_v2 at 224 px: 3,504,872 parameters, 0.301 G
# multiply-adds; the exact count is the one that other counters report.
PARAMETERS = 3_504_872
MACS = 300_774_272


@pytest.fixture(scope="module")
def network() -> MobileNetV2:
    with torch.device("meta"):
        return MobileNetV2(1000)


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


def test_whole_backward_costs_twice_the_forward_but_for_the_pictures(network: MobileNetV2) -> None:
    stem = 112 * 112 * 32 * 27
    assert training_macs(network, (1, 3, 224, 224)) == 3 * MACS - stem


def test_block_costs_what_its_convolutions_cost() -> None:
    block = mobilenetv2_block(Block(96, 576, 96))
    assert macs(block, (1, 96, 7, 7)) == 49 * (96 * 576 + 9 * 576 + 576 * 96)


@pytest.mark.parametrize("blocks", [1, 3, 5])
def test_trained_top_owes_no_gradient_of_its_input(blocks: int) -> None:
    with torch.device("meta"):
        top = find_method("ft-blocks").prepare(MobileNetV2(10), blocks).top
    channels, side = {1: (160, 7), 3: (160, 7), 5: (96, 14)}[blocks]
    shape = (8, channels, side, side)
    hidden = {1: 960, 3: 960, 5: 576}[blocks]
    expand = 8 * side * side * channels * hidden
    assert training_macs(top, shape) == 3 * macs(top, shape) - expand


def test_trained_classifier_costs_twice_its_forward_pass() -> None:
    with torch.device("meta"):
        top = find_method("ft-last").prepare(MobileNetV2(10), None).top
    assert macs(top, (8, 1280, 1, 1)) == 8 * 1280 * 10
    assert training_macs(top, (8, 1280, 1, 1)) == 2 * 8 * 1280 * 10
