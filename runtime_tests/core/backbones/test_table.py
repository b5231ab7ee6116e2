"""Backbones by name."""

from __future__ import annotations

import pytest
import torch

from mobiletl.core.backbones import FAMILIES, Family, find_backbone
from mobiletl.core.backbones.inverted_residual import InvertedResidual
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.transfer import TOTAL_STRIDE

WIDTHS = [
    *(("mbv2", 1.0), ("mbv2-0.35", 0.35), ("mbv2-1", 1.0)),
    *(("mbv3-small", 1.0), ("mbv3-small-0.5", 0.5), ("mbv3-large-0.75", 0.75)),
    *(("proxyless", 1.0), ("proxyless-1.4", 1.4), ("mcunet-5fps", 1.0)),
]


@pytest.mark.parametrize(("name", "width"), WIDTHS)
def test_width_is_part_of_the_name(name: str, width: float) -> None:
    backbone = find_backbone(name)
    assert (backbone.name, backbone.width) == (name, width)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_table_states_the_blocks_that_are_there(family: Family) -> None:
    with torch.device("meta"):
        model = find_backbone(family.name).build(classes=7)
    assert sum(isinstance(m, InvertedResidual) for m in model.modules()) == family.blocks
    assert model.block_count == family.blocks
    assert model.state_dict()[f"{model.classes_layer}.bias"].shape == (7,)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_network_has_the_stride_that_resolutions_are_checked_for(family: Family) -> None:
    with torch.device("meta"):
        model = find_backbone(family.name).build(classes=7)
        h = model.features(torch.empty(1, 3, 2 * TOTAL_STRIDE, 2 * TOTAL_STRIDE))
    assert h.shape[2:] == (2, 2)


def test_names_of_families_are_unique() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_unknown_model_lists_the_known() -> None:
    with pytest.raises(UnsupportedModel, match=r"'resnet18'.*mbv2 and mbv2-WIDTH"):
        find_backbone("resnet18")


@pytest.mark.parametrize("name", ["mbv2-", "mbv2-wide", "mbv2-0", "mbv2-nan", "mbv2--1", "mbv2-9"])
def test_impossible_width_is_named(name: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"{name}.*expected 0.1 to 4"):
        find_backbone(name)


def test_searched_network_has_one_width() -> None:
    with pytest.raises(UnsupportedModel, match=r"one width only, not '0.5'; try --model mcunet-5f"):
        find_backbone("mcunet-5fps-0.5")
