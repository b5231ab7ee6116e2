"""Paper accounting against the published figures, in MB of 1e6 bytes and millions of FLOPs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.accounting import Account, account, account_of
from mobiletl.core.backbones import FAMILIES, Family, find_backbone
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.flops import macs
from mobiletl.core.inverted_residual import (
    Block,
    IrbNetwork,
    NormSetting,
    mobilenetv2_block,
    mobilenetv3_block,
)
from mobiletl.core.masks import pack_mask
from mobiletl.core.methods import METHODS, Method, find_method
from mobiletl.core.methods.exact import train_exactly
from mobiletl.core.transfer import Transfer, TransferTop

MB = 1e6
BATCH = 8
RESOLUTION = 224

# MobileTL (Chiang et al., AAAI 2023), Figure 1; masks are 1 or 2 bits for each of 8*576*7*7.
MASK_MB = 8 * 576 * 7 * 7 / 8 / MB
FIGURE_1_V2 = {
    "conv.0.0": (0.15, 0.15),
    "conv.0.1": (0.91, 0.0),
    "conv.0.2": (2 * MASK_MB, MASK_MB),
    "conv.1.0": (0.90, 0.90),
    "conv.1.1": (0.91, 0.0),
    "conv.1.2": (2 * MASK_MB, MASK_MB),
    "conv.2": (0.90, 0.90),
    "conv.3": (0.15, 0.15),
}
FIGURE_1_V3 = {
    "block.0.0": (0.15, 0.15),
    "block.0.1": (0.91, 0.0),
    "block.0.2": (0.90, MASK_MB),
    "block.1.0": (0.90, 0.90),
    "block.1.1": (0.91, 0.0),
    "block.1.2": (0.90, MASK_MB),
    "block.2": (0.95, 0.95),
    "block.3.0": (0.90, 0.90),
    "block.3.1": (0.15, 0.15),
}
# Figure 2, MobileNetV3-Small, 10 classes: forward, backward, stored.
FIGURE_2 = [
    (1, 968.8, 284.3, None),
    (3, 972.1, 655.4, 23.1),
    (5, 975.0, 902.7, 35.9),
    ("all", 1000.6, 1934.9, 129.7),
]


def whole(network: IrbNetwork) -> Transfer:
    """All of the network trained exactly, the stem included."""
    classifier = {
        name: layer
        for name, layer in network.classifier.named_children()
        if not isinstance(layer, nn.Dropout)
    }
    top = TransferTop(dict(network.features.named_children()), classifier)
    transfer = Transfer(nn.Sequential(), top, network.block_count)
    train_exactly(transfer)
    return transfer


def whole_account(model: str, classes: int) -> Account:
    with torch.device("meta"):
        transfer = whole(find_backbone(model).build(classes))
    return account_of(transfer, (BATCH, 3, RESOLUTION, RESOLUTION))


def one_block(block: nn.Module, method: str) -> dict[str, int]:
    """Bytes by layer of a block that is all there is to train but the classifier."""
    network = IrbNetwork("one block", [], [block], [], nn.Sequential(nn.Linear(96, 10)))
    it = account_of(find_method(method).prepare(network, 1), (BATCH, 96, 7, 7))
    prefix = "features.0."
    return {
        layer.name.removeprefix(prefix): layer.stored_bytes
        for layer in it.top
        if layer.name.startswith(prefix)
    }


def figure_1(network: str, method: str) -> dict[str, float]:
    """MB by component; the layers of squeeze-excite are one component."""
    if network == "v2":
        rows = one_block(mobilenetv2_block(Block(96, 576, 96)), method)
    else:
        block = Block(96, 576, 96, activation=nn.Hardswish, squeezed_channels=144)
        rows = one_block(mobilenetv3_block(block, NormSetting()), method)
    components = dict.fromkeys(FIGURE_1_V2 if network == "v2" else FIGURE_1_V3, 0.0)
    for name, size in rows.items():
        if name != "sum":
            (component,) = (c for c in components if f"{name}.".startswith(f"{c}."))
            components[component] += size / MB
    return components


@pytest.mark.parametrize("column", [0, 1], ids=["vanilla", "mobiletl"])
@pytest.mark.parametrize(("network", "figure"), [("v2", FIGURE_1_V2), ("v3", FIGURE_1_V3)])
def test_figure_1_by_component(
    network: str, figure: dict[str, tuple[float, float]], column: int
) -> None:
    found = figure_1(network, ("ft-blocks", "mobiletl")[column])
    assert list(found) == list(figure)
    for component, published in figure.items():
        assert found[component] == pytest.approx(published[column], rel=0.01), component


@pytest.mark.parametrize(
    ("network", "vanilla", "mobiletl", "saving_percent"),
    [("v2", 4.03, 2.16, 46.3), ("v3", 6.67, 3.11, 53.3)],
)
def test_figure_1_totals(
    network: str, vanilla: float, mobiletl: float, saving_percent: float
) -> None:
    sums = [sum(figure_1(network, method).values()) for method in ("ft-blocks", "mobiletl")]
    assert sums == pytest.approx([vanilla, mobiletl], rel=0.01)
    assert 100 * (1 - sums[1] / sums[0]) == pytest.approx(saving_percent, abs=0.1)


@pytest.mark.parametrize(("blocks", "forward", "backward", "stored"), FIGURE_2)
def test_figure_2(blocks: int | str, forward: float, backward: float, stored: float | None) -> None:
    if isinstance(blocks, str):
        it = whole_account("mbv3-small", 10)
    else:
        method = find_method("ft-blocks")
        it = account(find_backbone("mbv3-small"), method, blocks, 10, BATCH, RESOLUTION)
    assert it.forward_flops / 1e6 == pytest.approx(forward, rel=0.005)
    assert it.backward_flops / 1e6 == pytest.approx(backward, rel=0.02)
    if stored is not None:
        assert it.stored_bytes / MB == pytest.approx(stored, rel=0.005)


# Training memory of ProxylessNAS-Mobile, MB; 100 classes give last and full to the digit.
TRAINING_MEMORY = [
    *(("mobiletl", 1, 32.3), ("mobiletl", 2, 33.0), ("mobiletl", 3, 33.8)),
    *(("ft-blocks", 1, 32.3), ("ft-last", None, 29.0)),
]
# See `accounting.py`: what is published is a constant above what is stored.
UNEXPLAINED = [("mobiletl", 4, 38.9), ("ft-blocks", 2, 35.5)]
UNEXPLAINED += [("ft-blocks", 3, 40.5), ("ft-blocks", 4, 50.1)]
CONSTANT_MB = 12.96
HEAD_NORM_MB = BATCH * 1280 * 7 * 7 * 4 / MB


def proxyless(method: str, blocks: int | None) -> Account:
    return account(find_backbone("proxyless"), find_method(method), blocks, 100, BATCH, RESOLUTION)


@pytest.mark.parametrize(("method", "blocks", "published"), TRAINING_MEMORY)
def test_training_memory(method: str, blocks: int | None, published: float) -> None:
    found = proxyless(method, blocks).training_memory_bytes / MB
    assert found == pytest.approx(published, rel=0.005)


def test_training_memory_of_all() -> None:
    found = whole_account("proxyless", 100).training_memory_bytes / MB
    assert found == pytest.approx(367, rel=0.015)


@pytest.mark.parametrize(("method", "blocks", "published"), UNEXPLAINED)
def test_what_training_memory_leaves_unexplained(
    method: str, blocks: int, published: float
) -> None:
    """Stored activations and parameters explain all of it but one constant."""
    it = proxyless(method, blocks)
    parameters = 4 * it.trained_parameters + it.frozen_parameters
    stored = it.stored_bytes / MB + (HEAD_NORM_MB if method == "mobiletl" else 0.0)
    assert published - parameters / MB - stored == pytest.approx(CONSTANT_MB, abs=0.07)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_account_of_every_backbone_and_method(family: Family, method: Method) -> None:
    backbone = find_backbone(family.name)
    blocks = method.default_blocks
    it, twice = (account(backbone, method, blocks, 10, n, 96) for n in (2, 4))
    with torch.device("meta"):
        network = backbone.build(10)
    convolutions = 2 * macs(network, (2, 3, 96, 96))
    assert convolutions < it.forward_flops < 1.4 * convolutions
    assert twice.forward_flops == 2 * it.forward_flops
    assert twice.stored_bytes == pytest.approx(2 * it.stored_bytes, rel=1e-6)
    assert it.trained_parameters + it.frozen_parameters == sum(
        p.numel() for p in network.parameters()
    )
    assert all(layer.backward_flops == layer.stored_bytes == 0 for layer in it.prefix)
    assert it.backward_flops == sum(layer.backward_flops for layer in it.top) > 0
    assert it.peak_activation_bytes >= it.stored_bytes > 0


def test_last_layer_stores_its_input_alone() -> None:
    it = account(find_backbone("mbv3-large"), find_method("ft-last"), None, 10, BATCH, 96)
    assert it.stored_bytes == BATCH * 1280 * 4
    assert it.backward_flops == BATCH * (2 * 1280 * 10 + 10)
    assert it.trained_parameters == 1281 * 10


def test_block_without_expansion_owes_no_gradient_of_its_input() -> None:
    block = mobilenetv2_block(Block(32, 32, 16))
    network = IrbNetwork("one block", [], [block], [], nn.Sequential(nn.Linear(16, 2)))
    it = account_of(find_method("mobiletl").prepare(network, 1), (1, 32, 8, 8))
    rows = {layer.name: layer for layer in it.top}
    depthwise = rows["features.0.conv.0.0"]
    assert depthwise.stored_bytes == 32 * 8 * 8 * 4
    assert depthwise.forward_flops == depthwise.backward_flops == 2 * 9 * 32 * 8 * 8
    project = rows["features.0.conv.1"]
    assert project.backward_flops == 2 * project.forward_flops
    assert depthwise.workspace_bytes == 4 * (32 * 8 * 8 + 8 * 8)


def test_residual_blocks_hold_their_input() -> None:
    sizes = []
    for out_channels in (8, 16):
        block = mobilenetv2_block(Block(8, 16, out_channels))
        classifier = nn.Sequential(nn.Linear(out_channels, 2))
        network = IrbNetwork("one block", [], [block], [], classifier)
        it = account_of(find_method("ft-blocks").prepare(network, 1), (1, 8, 4, 4))
        sizes.append({layer.name: layer.workspace_bytes for layer in it.top})
    assert sizes[0]["features.0.conv.1.1"] - sizes[1]["features.0.conv.1.1"] == 8 * 16 * 4


def test_mask_row_is_the_size_of_a_packed_mask() -> None:
    block = mobilenetv2_block(Block(3, 5, 3))
    network = IrbNetwork("one block", [], [block], [], nn.Sequential(nn.Linear(3, 2)))
    it = account_of(find_method("mobiletl").prepare(network, 1), (1, 3, 7, 7))
    (row,) = (layer for layer in it.top if layer.name == "features.0.conv.0.2")
    assert row.stored_bytes == pack_mask(torch.zeros(1, 5, 7, 7)).numel()


def test_layer_without_a_rule_is_an_error() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    network = IrbNetwork("odd", [], [block], [], nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(UnsupportedModel, match=r"no rule for GroupNorm \(features.0.1\)"):
        account_of(find_method("ft-blocks").prepare(network, 1), (1, 3, 4, 4))


@pytest.mark.parametrize("blocks", [-1, 12])
def test_impossible_number_of_blocks_is_refused(blocks: int) -> None:
    with pytest.raises(UnsupportedModel, match="MobileNetV3-Small has 11"):
        account(find_backbone("mbv3-small"), find_method("mobiletl"), blocks, 10, 1, 96)
