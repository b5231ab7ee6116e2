"""Cutting a network in two changes nothing about what it computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mobiletl.core.backbones import FAMILIES, Family
from mobiletl.core.backbones.inverted_residual import IrbNetwork
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.transfer import check_resolution, fold_norms, split, trained_norms
from runtime_tests.support.networks import RESOLUTION, small_network, unsettle

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


def narrow(family: Family) -> IrbNetwork:
    """The family's network, as narrow as it comes, in eval mode."""
    torch.manual_seed(0)
    network = family.build(3, 0.25 if family.has_widths else 1.0)
    unsettle(network)
    return network.eval()


@pytest.mark.parametrize("blocks", [None, 0, 2])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_backbone_computes_the_same_in_two_parts(family: Family, blocks: int | None) -> None:
    network = narrow(family)
    with torch.no_grad():
        expected = network(PICTURES)
        transfer = split(network, blocks)
        h = transfer.prefix(PICTURES)
        found = transfer.top.eval()(h)
        embedding = transfer.top.embed(h)
    assert h.dim() == 4
    assert embedding.shape == (2, transfer.top.embedding_size)
    assert transfer.blocks == (blocks or 0)
    torch.testing.assert_close(found, expected, **FOLDED)
    assert transfer.top.state_dict().keys() <= network.state_dict().keys()
    assert transfer.top.classes_layer == network.classes_layer


def test_classifier_alone_leaves_the_hidden_layer_of_mobilenetv3_in_the_prefix() -> None:
    (family,) = (family for family in FAMILIES if family.name == "mbv3-small")
    transfer = split(family.build(3, 1.0).eval(), None)
    assert transfer.prefix(PICTURES).shape == (2, 1024, 1, 1)
    assert list(transfer.top.state_dict()) == ["classifier.3.weight", "classifier.3.bias"]


def test_norm_without_a_convolution_before_it_is_named() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    with pytest.raises(UnsupportedModel, match=r"the norm 2 can't be frozen"):
        fold_norms(layers.eval())


def test_classifier_that_does_not_end_in_a_linear_layer_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="classifier of Odd does not end in a linear layer"):
        IrbNetwork("Odd", [], [], [], nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


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
