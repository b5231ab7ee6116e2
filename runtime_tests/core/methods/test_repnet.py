"""Rep-Net on every backbone: what is trained, what the backward pass reads, what was published."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mobiletl.core.backbones import find_backbone
from mobiletl.core.methods import find_method
from mobiletl.core.methods.block_maps import BlockMap
from mobiletl.core.methods.repnet import connected
from mobiletl.core.methods.side_branch import HalvedMean, SideBranch
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import TransferTop
from runtime_tests.support.frozen_backbones import (
    BACKBONES,
    PICTURES,
    backbone_biases,
    gradients,
    moved,
    prepared,
    pretrained,
    trained_names,
)

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("repnet", "repnet-bias")
# By the layers' numbers; the first three rows are the released code's (its blocks 1, 5, 9, 13, 17
# and 21 of ProxylessNAS count two empty ones and no stem).
PLACES = {
    "mbv2": ["2", "4", "7", "11", "14", "17"],
    "mbv3-large": ["2", "4", "7", "11", "13", "15"],
    "proxyless": ["2", "4", "8", "12", "16", "20"],
    "mbv3-small": ["1", "2", "4", "7", "9", "11"],
    "mcunet-5fps": ["2", "4", "6", "8", "11", "14"],
}


def on_meta(backbone: str, classes: int = 2) -> TransferTop:
    with torch.device("meta"):
        return find_method("repnet").prepare(find_backbone(backbone).build(classes), None).top


def branches(top: TransferTop) -> list[SideBranch]:
    modules = [*top.picture_side.values(), *top.side.values()]
    return [branch for branch in modules if isinstance(branch, SideBranch)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_reach_what_is_trained_and_nothing_else(backbone: str, method: str) -> None:
    top = moved(prepared(method, backbone).top)
    expected = {n for n, _ in top.named_parameters() if "side." in n}
    expected |= {n for n, _ in top.named_parameters() if n.startswith("classifier.")}
    if method == "repnet-bias":
        expected |= backbone_biases(backbone)
    assert trained_names(top) == expected
    found = gradients(top)
    assert found.keys() == expected
    assert [name for name, gradient in found.items() if not gradient.any()] == []
    step = TrainingStep(top, Sgd())
    assert step.named("parameter").keys() == expected
    norms = {n for n, m in top.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) == 2 * len(branches(top))
    assert all("side." in name for name in norms)
    statistics = {f"{name}.running_{which}" for name in norms for which in ("mean", "var")}
    assert step.named("statistic").keys() == statistics


@pytest.mark.parametrize("backbone", PLACES)
def test_places_are_those_of_the_released_code(backbone: str) -> None:
    top = on_meta(backbone)
    assert [*top.picture_side, *top.side] == PLACES[backbone]
    assert len(top.picture_side) == 1


def test_places_where_the_last_stage_is_one_block() -> None:
    """And where the width of the first block still belongs to the stem."""
    blocks = (
        BlockMap("1", 16, 32, 8, 32),
        BlockMap("2", 8, 32, 8, 32),
        BlockMap("3", 8, 32, 8, 16),
        BlockMap("4", 8, 16, 24, 16),
    )
    assert [block.name for block in connected(blocks)] == ["3", "4"]
    assert [block.name for block in connected(blocks[:2])] == ["2"]


def test_shapes_on_mobilenetv2_at_224() -> None:
    first, *others = branches(on_meta("mbv2"))
    assert isinstance(first.pool, HalvedMean)
    assert first.pool.window == 8
    assert (first.conv.in_channels, first.conv.out_channels, first.conv.groups) == (3, 8, 1)
    assert first.conv.kernel_size == (5, 5)
    assert [b.conv.in_channels for b in others] == [24, 32, 64, 96, 160]
    assert [b.conv.kernel_size[0] for b in others] == [5, 5, 5, 3, 3]
    assert {b.conv.groups for b in others} == {2}
    assert {b.conv.stride for b in others} == {(1, 1)}


def test_size_on_proxylessnas_mobile() -> None:
    """Kernels and norms by the table of the released code."""
    widths = ((3, 8, 32), (32, 32, 40), (40, 40, 80), (80, 80, 96), (96, 96, 192), (192, 192, 320))
    expected = 0
    for place, (in_channels, inner, out_channels) in enumerate(widths):
        kernel, groups = (5 if place < 4 else 3), (1 if place == 0 else 2)
        convolutions = in_channels * inner * kernel**2 // groups + inner * out_channels
        expected += convolutions + 2 * (inner + out_channels)
    top = on_meta("proxyless", classes=100)
    assert sum(p.numel() for b in branches(top) for p in b.parameters()) == expected == 415_464


def test_first_module_reads_the_picture_and_later_ones_what_was_fused() -> None:
    top = moved(prepared("repnet", "mbv2-0.35").top).eval()
    with torch.no_grad():
        h = PICTURES
        for name, layer in top.features.items():
            y = layer(h)
            if name in top.picture_side:
                side = top.picture_side[name](PICTURES)
                assert side.shape[2:] == (8, 8)
                y = y + functional.interpolate(side, y.shape[2:], mode="bilinear")
            elif name in top.side:
                y = y + functional.interpolate(top.side[name](h), y.shape[2:], mode="bilinear")
            h = y
        expected = top.classifier["1"](h.mean((2, 3)))
        torch.testing.assert_close(top(PICTURES), expected)
        assert not torch.allclose(expected, pretrained("mbv2-0.35")(PICTURES), rtol=0.01)


def test_side_norms_follow_the_batch_and_frozen_ones_do_not() -> None:
    """In training mode a picture's logits depend on the others through the side modules alone."""
    top = moved(prepared("repnet", "mbv2-0.35").top).train()
    with torch.no_grad():
        assert not torch.allclose(top(PICTURES)[:2], top(PICTURES[:2]))
        for branch in branches(top):
            branch.eval()
        torch.testing.assert_close(top(PICTURES)[:2], top(PICTURES[:2]))


def test_runs_on_the_smallest_pictures() -> None:
    """Whose last maps are single pixels; the modules are laid out for 224."""
    on_meta("mbv3-small")(torch.empty(2, 3, 32, 32, device="meta"))
