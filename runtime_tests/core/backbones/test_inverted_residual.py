"""MobileNetV3, ProxylessNAS-Mobile and MCUNet against what is published: keys, shapes, sizes."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from mobiletl.core.accounting.flops import macs, parameter_count
from mobiletl.core.backbones import find_backbone
from mobiletl.core.backbones.inverted_residual import (
    Block,
    NormSetting,
    SqueezeExcitation,
    mobilenetv2_block,
)
from runtime_tests.support.board.shared_files import shared

# Parameters as published, millions of multiply-adds as published, at which resolution:
# torchvision's pages of mobilenet_v3_small and _large; the ProxylessNAS paper and MCUNet's README
# (the number of parameters of ProxylessNAS-Mobile is that of the authors' own table of layers).
PUBLISHED = [
    ("mbv3-small", 2_542_856, 56.5, 224),
    ("mbv3-large", 5_483_032, 216.6, 224),
    ("proxyless", 4_080_512, 320.4, 224),
    ("mcunet-5fps", 636_232, 12.8, 96),
]

# Read off torchvision's mobilenet_v3_small() and mobilenet_v3_large(), one row per kind of layer.
SMALL = {
    "features.0.0.weight": (16, 3, 3, 3),
    "features.0.1.running_var": (16,),
    "features.1.block.0.0.weight": (16, 1, 3, 3),
    "features.1.block.1.fc1.weight": (8, 16, 1, 1),
    "features.1.block.1.fc2.bias": (16,),
    "features.1.block.2.0.weight": (16, 16, 1, 1),
    "features.2.block.2.1.weight": (24,),
    "features.4.block.1.0.weight": (96, 1, 5, 5),
    "features.11.block.2.fc1.weight": (144, 576, 1, 1),
    "features.11.block.3.1.bias": (96,),
    "features.12.0.weight": (576, 96, 1, 1),
    "classifier.0.weight": (1024, 576),
    "classifier.3.weight": (1000, 1024),
}
LARGE = {
    "features.1.block.0.0.weight": (16, 1, 3, 3),
    "features.1.block.1.0.weight": (16, 16, 1, 1),
    "features.4.block.2.fc1.weight": (24, 72, 1, 1),
    "features.15.block.1.0.weight": (960, 1, 5, 5),
    "features.16.0.weight": (960, 160, 1, 1),
    "classifier.0.weight": (1280, 960),
    "classifier.3.bias": (1000,),
}


@pytest.mark.parametrize(("name", "parameters", "millions", "resolution"), PUBLISHED)
def test_published_sizes(name: str, parameters: int, millions: float, resolution: int) -> None:
    with torch.device("meta"):
        network = find_backbone(name).build(1000)
    assert parameter_count(network) == parameters
    assert round(macs(network, (1, 3, resolution, resolution)) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "entries", "rows"), [("mbv3-small", 244, SMALL), ("mbv3-large", 312, LARGE)]
)
def test_keys_are_torchvisions(name: str, entries: int, rows: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        state = find_backbone(name).build(1000).state_dict()
    assert len(state) == entries
    assert {key: tuple(state[key].shape) for key in rows} == rows


@pytest.mark.parametrize("name", ["mbv3-small", "mbv3-large"])
def test_norms_of_mobilenetv3_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        network = find_backbone(name).build(10)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_squeeze_excite_scales_channels_by_their_means() -> None:
    torch.manual_seed(0)
    layer = SqueezeExcitation(8, 4)
    x = torch.randn(2, 8, 3, 5)
    means = x.mean((2, 3))
    fc1, fc2 = layer.fc1.weight.flatten(1), layer.fc2.weight.flatten(1)
    squeezed = torch.relu(means @ fc1.t() + layer.fc1.bias)
    scale = ((squeezed @ fc2.t() + layer.fc2.bias + 3) / 6).clamp(0, 1)
    torch.testing.assert_close(layer(x), x * scale[:, :, None, None], rtol=1e-5, atol=1e-6)


def test_mcunet_keys_and_shapes_are_those_of_its_weights() -> None:
    with safe_open(str(shared("weights/mcunet-5fps-imagenet.safetensors")), "pt") as file:
        published = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    with torch.device("meta"):
        state = find_backbone("mcunet-5fps").build(1000).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == published


def test_block_with_squeeze_excite_has_no_place_in_mobilenetv2() -> None:
    with pytest.raises(ValueError, match="no place for squeeze-excite"):
        mobilenetv2_block(Block(8, 16, 8, squeezed_channels=4), NormSetting())
