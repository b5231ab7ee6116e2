"""Paper accounting layer by layer: what is stored, computed and held, on networks small enough to
be counted by hand; and that the walk sees every layer once.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mobiletl.core.accounting.account import LayerCost, account, account_of
from mobiletl.core.accounting.flops import training_macs
from mobiletl.core.backbones import find_backbone
from mobiletl.core.backbones.inverted_residual import (
    Block,
    ConvNormActivation,
    InvertedResidual,
    IrbNetwork,
    mobilenetv2_block,
)
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layer_walk import visits
from mobiletl.core.layers.masks import pack_mask
from mobiletl.core.methods import METHODS, Reach, find_method

FLOAT = 4


def rows_of(network: IrbNetwork, method: str, shape: tuple[int, ...]) -> dict[str, LayerCost]:
    """The layers of the top by name; `shape` is that of what the top takes."""
    chosen = find_method(method)
    blocks = network.block_count if chosen.reach is Reach.BLOCKS else None
    transfer = chosen.prepare(network, blocks, resolution=shape[2])
    return {row.name: row for row in account_of(transfer, shape).top}


def one_block(row: Block) -> IrbNetwork:
    classifier = nn.Sequential(nn.Linear(row.out_channels, 2))
    return IrbNetwork("one block", [], [mobilenetv2_block(row)], [], classifier)


def three_layers() -> IrbNetwork:
    """A stem and two blocks, so that something lies below a block and something beside."""
    blocks = [mobilenetv2_block(Block(8, 16, 8)), mobilenetv2_block(Block(8, 16, 16, stride=2))]
    stem = ConvNormActivation(3, 8, 3, 2, 1)
    return IrbNetwork("three layers", [stem], blocks, [], nn.Sequential(nn.Linear(16, 2)))


def test_last_layer_stores_its_input_alone() -> None:
    it = account(find_backbone("mbv3-large"), find_method("ft-last"), None, 10, 8, 96)
    assert it.stored_bytes == 8 * 1280 * FLOAT
    assert it.backward_macs == 8 * 1280 * 10
    assert it.backward_flops == 8 * (2 * 1280 * 10 + 10)
    assert it.trained_parameters == 1281 * 10


def test_block_without_expansion_owes_no_gradient_of_its_input() -> None:
    rows = rows_of(one_block(Block(32, 32, 16)), "mobiletl", (1, 32, 8, 8))
    depthwise = rows["features.0.conv.0.0"]
    assert depthwise.stored_bytes == 32 * 8 * 8 * FLOAT
    assert depthwise.forward_flops == depthwise.backward_flops == 2 * 9 * 32 * 8 * 8
    project = rows["features.0.conv.1"]
    assert project.backward_flops == 2 * project.forward_flops
    assert depthwise.workspace_bytes == FLOAT * (32 * 8 * 8 + 8 * 8)


def test_residual_blocks_hold_their_input() -> None:
    same, other = (rows_of(one_block(Block(8, 16, c)), "ft-blocks", (1, 8, 4, 4)) for c in (8, 16))
    norm = "features.0.conv.1.1"
    assert same[norm].workspace_bytes - other[norm].workspace_bytes == 8 * 16 * FLOAT


def test_mask_row_is_the_size_of_a_packed_mask() -> None:
    rows = rows_of(one_block(Block(3, 5, 3)), "mobiletl", (1, 3, 7, 7))
    row = rows["features.0.conv.0.2"]
    assert row.stored_bytes == pack_mask(torch.zeros(1, 5, 7, 7)).numel()


def test_layer_without_a_rule_is_an_error() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2))
    network = IrbNetwork("odd", [], [block], [], nn.Sequential(nn.Linear(1, 2)))
    with pytest.raises(UnsupportedModel, match=r"no rule for PixelShuffle \(features.0.1\)"):
        account_of(find_method("ft-blocks").prepare(network, 1), (1, 3, 4, 4))


def test_frozen_convolutions_store_nothing_and_cost_their_inputs_gradient() -> None:
    rows = rows_of(three_layers(), "ft-bias", (1, 3, 16, 16))
    stem = rows["features.0.0"]
    assert (stem.stored_bytes, stem.backward_flops) == (0, 0)
    expand = rows["features.1.conv.0.0"]
    assert expand.stored_bytes == 0
    assert expand.backward_flops == expand.forward_flops == 2 * 8 * 16 * 8 * 8
    shift = rows["features.1.conv.0.1"]
    assert (shift.stored_bytes, shift.forward_flops, shift.backward_flops) == (0, 1024, 1024)
    clipped = rows["features.1.conv.0.2"]
    assert clipped.stored_bytes == 2 * 16 * 8 * 8 // 8


def test_trained_norms_of_frozen_layers_store_their_input() -> None:
    rows = rows_of(three_layers(), "ft-bn", (1, 3, 16, 16))
    assert rows["features.0.1"].stored_bytes == 8 * 8 * 8 * FLOAT
    # Below the stem's norm nothing is trained: the gradients of scale and shift are all it owes.
    assert rows["features.0.1"].backward_flops == (4 + 1) * 8 * 8 * 8
    assert rows["features.1.conv.0.1"].backward_flops == 15 * 16 * 8 * 8
    assert rows["features.1.conv.0.0"].stored_bytes == 0


def test_one_bit_activations_store_one_bit() -> None:
    exact, one_bit = (rows_of(three_layers(), m, (1, 3, 16, 16)) for m in ("ft-bias", "tinytl-b"))
    for name, row in exact.items():
        bits = 2 if row.component == "activation" else 1
        assert one_bit[name].stored_bytes == row.stored_bytes // bits
        assert one_bit[name].forward_flops == row.forward_flops


def test_what_stands_beside_a_block_is_counted_with_its_resize_and_sum() -> None:
    """A lite module beside a block of stride 2: 8x8 pooled to 4x4, convolved to 2x2, resized to 4x4
    and added.
    """
    rows = rows_of(three_layers(), "tinytl-l", (1, 3, 16, 16))
    beside = {name.removeprefix("side.2."): row for name, row in rows.items() if "side.2" in name}
    assert beside["pool"].forward_flops == 8 * 8 * 8
    # Two groups, 3x3, 8 channels; every kernel is standardised first (7 per tap).
    taps = 8 * 4 * 9
    assert beside["conv"].forward_macs == taps * 2 * 2
    assert beside["conv"].forward_flops == 2 * taps * 2 * 2 + 7 * taps
    assert beside["conv"].stored_bytes == 8 * 4 * 4 * FLOAT
    assert beside["inner_norm"].stored_bytes == 8 * 2 * 2 * FLOAT
    assert beside["activation"].stored_bytes == 8 * 2 * 2 // 8
    assert beside["project"].stored_bytes == 8 * 2 * 2 * FLOAT
    assert rows["side.2.resize"].forward_flops == 7 * 16 * 4 * 4
    assert rows["side.2.sum"].forward_flops == 16 * 4 * 4


class Resizing(nn.Module):
    """A block that is not one of ours, with a container of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


def test_walk_sees_rows_that_run_as_one_layer_by_layer() -> None:
    network = IrbNetwork("own", [Resizing()], [], [], nn.Sequential(nn.Linear(4, 2)))
    top = find_method("ft-bias").prepare(network, None).top
    found, y = visits(top, torch.empty(2, 4, 3, 3, device="meta"))
    names = [visit.name for visit in found]
    assert names[:3] == ["features.0.body.0", "features.0.body.1", "features.0.body.2"]
    assert y.shape == (2, 2)
    assert [visit.needs_input_grad for visit in found[:3]] == [False, False, True]


def test_walk_leaves_the_network_as_it_is() -> None:
    top = find_method("ft-bias").prepare(three_layers(), None).top
    before = [type(module) for module in top.modules()]
    visits(top, torch.empty(1, 3, 16, 16, device="meta"))
    assert [type(module) for module in top.modules()] == before
    assert all(p.device.type == "cpu" for p in top.parameters())
    assert not any(module._forward_hooks for module in top.modules())


def test_only_residual_blocks_hold() -> None:
    network = three_layers()
    assert [isinstance(b, InvertedResidual) and b.residual for b in network.features] == [
        False,
        True,
        False,
    ]
    found, _ = visits(network, torch.empty(1, 3, 16, 16, device="meta"))
    held = {visit.name: visit.held_elements for visit in found}
    assert held["features.1.conv.0.0"] == 8 * 8 * 8
    assert held["features.2.conv.0.0"] == held["features.0.0"] == 0


COUNTED = {"mbv3-small": [m.name for m in METHODS], "mbv2-0.35": ["mobiletl", "tinytl-lb"]}
CASES = [(model, method) for model, methods in COUNTED.items() for method in methods]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "method_name"), CASES)
def test_multiply_adds_are_those_that_pytorch_counts(model: str, method_name: str) -> None:
    """PyTorch's counter sees operators, the accounting sees layers: neither knows of the other."""
    backbone, method = find_backbone(model), find_method(method_name)
    it = account(backbone, method, None, 10, 2, 96)
    with torch.device("meta"):
        transfer = method.prepare(backbone.build(10), None, fold=False, resolution=96)
        h = transfer.prefix(torch.empty(2, 3, 96, 96))
    below = sum(layer.forward_macs for layer in it.prefix)
    trained = training_macs(transfer.top, tuple(h.shape))
    assert it.forward_macs + it.backward_macs - below == trained
