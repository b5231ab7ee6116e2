"""MobileNetV2 against torchvision's published network: keys, shapes, sizes."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from mobiletl.core.accounting.flops import parameter_count
from mobiletl.core.backbones.inverted_residual import InvertedResidual, make_divisible
from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from runtime_tests.support.board.shared_files import shared


@pytest.fixture(scope="module")
def network() -> MobileNetV2:
    with torch.device("meta"):
        return MobileNetV2(1000)


def test_state_dict_is_that_of_the_published_file(network: MobileNetV2) -> None:
    path = shared("weights/mobilenet_v2-imagenet.safetensors")
    with safe_open(str(path), framework="pt") as file:
        published = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    ours = {key: list(value.shape) for key, value in network.state_dict().items()}
    counters = {key for key in ours if key.endswith("num_batches_tracked")}
    assert {k: v for k, v in ours.items() if k not in counters} == {
        k: v for k, v in published.items() if k not in counters
    }


def test_keys_and_shapes_of_each_kind_of_layer(network: MobileNetV2) -> None:
    """Read off torchvision's mobilenet_v2(), one row per kind; it has 314 entries."""
    state = network.state_dict()
    assert len(state) == 314
    for key, shape in {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.1.conv.2.running_var": (16,),
        "features.2.conv.0.1.bias": (96,),
        "features.17.conv.1.0.weight": (960, 1, 3, 3),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.17.conv.3.running_mean": (320,),
        "features.18.0.weight": (1280, 320, 1, 1),
        "classifier.1.weight": (1000, 1280),
    }.items():
        assert tuple(state[key].shape) == shape, key


@pytest.mark.parametrize(("width", "millions"), [(0.5, 1.97), (1.0, 3.50), (1.4, 6.11)])
def test_parameters_at_other_widths(width: float, millions: float) -> None:
    """timm's published table: mobilenetv2_050, _100, _140."""
    with torch.device("meta"):
        model = MobileNetV2(1000, width)
    assert round(parameter_count(model) / 1e6, 2) == millions


def test_residual_blocks_are_those_that_keep_their_shape(network: MobileNetV2) -> None:
    blocks = {n: m for n, m in network.features.named_children() if isinstance(m, InvertedResidual)}
    assert len(blocks) == 17
    assert [int(n) for n, block in blocks.items() if block.residual] == [
        *(3, 5, 6, 8, 9, 10, 12, 13, 15, 16)
    ]


def test_five_halvings(network: MobileNetV2) -> None:
    assert network.features(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1280, 7, 7)
    assert network(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize(
    ("channels", "rounded"), [(32, 32), (11.2, 16), (3.2, 8), (33.6, 32), (8.4, 8), (5.6, 8)]
)
def test_make_divisible_never_loses_a_tenth(channels: float, rounded: int) -> None:
    assert make_divisible(channels) == rounded
    assert rounded >= 0.9 * channels


def test_narrow_networks_keep_the_head() -> None:
    with torch.device("meta"):
        state = MobileNetV2(10, 0.35).state_dict()
    assert state["features.18.0.weight"].shape == (1280, 112, 1, 1)
