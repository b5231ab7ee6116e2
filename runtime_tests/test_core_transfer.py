"""Cutting a network in two changes nothing about what it computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.transfer import check_resolution, split, trained_norms
from runtime_tests.networks import RESOLUTION, small_network

# Folding a norm into a kernel rounds once more: 18 layers, float32.
FOLDED = {"rtol": 1e-4, "atol": 1e-5}
PICTURES = torch.randn(2, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("blocks", [None, 0, 1, 3, 16, 17])
def test_prefix_and_top_compute_what_the_network_computes(blocks: int | None) -> None:
    network = small_network()
    with torch.no_grad():
        expected = network(PICTURES)
        transfer = split(network, blocks)
        found = transfer.top.eval()(transfer.prefix(PICTURES))
    torch.testing.assert_close(found, expected, **FOLDED)


def test_prefix_equals_the_unfolded_layers() -> None:
    network = small_network()
    with torch.no_grad():
        expected = network.features[:15](PICTURES)
        found = split(network, 3).prefix(PICTURES)
    torch.testing.assert_close(found, expected, **FOLDED)


@pytest.mark.parametrize("blocks", [None, 0, 3, 17])
def test_nothing_of_the_prefix_can_be_trained(blocks: int | None) -> None:
    prefix = split(small_network(), blocks).prefix
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prefix.modules())
    assert not any(parameter.requires_grad for parameter in prefix.parameters())
    assert not any(module.training for module in prefix.modules())


@pytest.mark.parametrize(("blocks", "first"), [(0, 18), (1, 17), (3, 15), (17, 1)])
def test_top_keeps_the_numbers_of_its_layers(blocks: int, first: int) -> None:
    top = split(small_network(), blocks).top
    assert list(top.features) == [str(n) for n in range(first, 19)]
    network_keys = small_network().state_dict().keys()
    assert top.state_dict().keys() <= network_keys


def test_classifier_alone_takes_an_averaged_map() -> None:
    transfer = split(small_network(), None)
    assert transfer.prefix(PICTURES).shape == (2, 1280, 1, 1)
    assert [name for name, _ in transfer.top.named_parameters()] == [
        "classifier.1.weight",
        "classifier.1.bias",
    ]


def test_trained_norms_are_batch_norms_with_their_names() -> None:
    names = [name for name, _ in trained_norms(split(small_network(), 1).top)]
    assert names == [
        "features.17.conv.0.1",
        "features.17.conv.1.1",
        "features.17.conv.3",
        "features.18.1",
    ]


@pytest.mark.parametrize("blocks", [18, -1])
def test_more_blocks_than_there_are(blocks: int) -> None:
    with pytest.raises(UnsupportedModel, match=rf"{blocks} blocks.*has 17; try --blocks 3"):
        split(small_network(), blocks)


@pytest.mark.parametrize(
    ("resolution", "try_this"), [(225, 224), (100, 96), (0, 32), (-32, 32), (31, 32)]
)
def test_resolution_the_strides_do_not_divide(resolution: int, try_this: int) -> None:
    with pytest.raises(UnsupportedModel, match=rf"resolution {resolution} .*try {try_this}$"):
        check_resolution(resolution)


@pytest.mark.parametrize("resolution", [32, 96, 224, 256])
def test_resolution_that_fits(resolution: int) -> None:
    check_resolution(resolution)
