"""Backbones by name."""

from __future__ import annotations

import pytest
import torch

from mobiletl.core.backbones import FAMILIES, find_backbone
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.mobilenetv2 import InvertedResidual


@pytest.mark.parametrize(("name", "width"), [("mbv2", 1.0), ("mbv2-0.35", 0.35), ("mbv2-1", 1.0)])
def test_width_is_part_of_the_name(name: str, width: float) -> None:
    backbone = find_backbone(name)
    assert (backbone.name, backbone.width) == (name, width)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_table_states_the_blocks_that_are_there(family: object) -> None:
    (row,) = (f for f in FAMILIES if f is family)
    with torch.device("meta"):
        model = find_backbone(row.name).build(classes=7)
    assert sum(isinstance(m, InvertedResidual) for m in model.modules()) == row.blocks
    assert model.state_dict()["classifier.1.bias"].shape == (7,)


def test_names_of_families_are_unique() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_unknown_model_lists_the_known() -> None:
    with pytest.raises(UnsupportedModel, match=r"'resnet18'.*mbv2 and mbv2-WIDTH"):
        find_backbone("resnet18")


@pytest.mark.parametrize("name", ["mbv2-", "mbv2-wide", "mbv2-0", "mbv2-nan", "mbv2--1", "mbv2-9"])
def test_impossible_width_is_named(name: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"{name}.*expected 0.1 to 4"):
        find_backbone(name)
