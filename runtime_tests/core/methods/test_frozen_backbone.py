"""What holds of every method that trains beside or inside a frozen backbone, on every backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from runtime_tests.support.frozen_backbones import (
    BACKBONES,
    FOLDED,
    PICTURES,
    RELU6_BACKBONES,
    gradients,
    gradients_without_maps,
    moved,
    prepared,
    pretrained,
    steps,
    trained_names,
    trains_itself,
)

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("tinytl-b", "tinytl-l", "tinytl-lb", "repnet", "repnet-bias", "da3")


def in_tiers(backbones: Sequence[str]) -> list[Any]:
    """(backbone, method): the fast tier has every method once and every backbone once."""
    return [
        pytest.param(
            *(backbone, method),
            id=f"{backbone}-{method}",
            marks=[] if backbones[0] == backbone or method == "tinytl-lb" else [pytest.mark.slow],
        )
        for backbone in backbones
        for method in METHODS
    ]


@pytest.mark.parametrize(("backbone", "method"), in_tiers(BACKBONES))
def test_at_first_it_computes_what_the_network_does(backbone: str, method: str) -> None:
    """In both modes: the backbone's norms do not know the difference."""
    top = prepared(method, backbone).top
    with torch.no_grad():
        expected = pretrained(backbone)(PICTURES)
        torch.testing.assert_close(top.eval()(PICTURES), expected, **FOLDED)
        torch.testing.assert_close(top.train()(PICTURES), expected, **FOLDED)


@pytest.mark.parametrize(("backbone", "method"), in_tiers(BACKBONES))
def test_steps_move_what_is_trained_and_nothing_else(backbone: str, method: str) -> None:
    top = prepared(method, backbone).top
    before = {name: tensor.clone() for name, tensor in top.state_dict().items()}
    steps(top)
    after = top.state_dict()
    statistics = set(TrainingStep(top, Sgd()).named("statistic"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == trained_names(top) | statistics


@pytest.mark.parametrize(("backbone", "method"), in_tiers(RELU6_BACKBONES))
def test_backward_reads_no_float_map_of_the_frozen_backbone(backbone: str, method: str) -> None:
    top = moved(prepared(method, backbone).top)
    expected = gradients(top)
    found, replaced = gradients_without_maps(top, trains_itself)
    assert replaced > len(top.features)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_test_above_sees_maps_that_are_read() -> None:
    """ReLU6 as PyTorch has it, and hard swish in every form, read theirs."""
    for method, backbone in (("ft-bias", "mbv2-0.35"), ("tinytl-b", "mbv3-small-0.35")):
        top = prepared(method, backbone).top
        expected = gradients(top)
        found, _ = gradients_without_maps(top, trains_itself)
        assert not all(torch.equal(found[name], expected[name]) for name in expected)
