"""TinyTL on every backbone: what is trained, what the backward pass reads, what was published."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mobiletl.core.backbones import find_backbone
from mobiletl.core.backbones.inverted_residual import ConvNormActivation, IrbNetwork
from mobiletl.core.backbones.proxyless import ROWS
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.methods import find_method
from mobiletl.core.methods.side_branch import SideBranch
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from runtime_tests.support.frozen_backbones import (
    BACKBONES,
    PICTURES,
    backbone_biases,
    gradients,
    last_layer,
    moved,
    prepared,
    pretrained,
    trained_names,
)

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("tinytl-b", "tinytl-l", "tinytl-lb")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_reach_what_is_trained_and_nothing_else(backbone: str, method: str) -> None:
    top = moved(prepared(method, backbone).top)
    side = {f"side.{name}" for name, _ in top.side.named_parameters()}
    biases = backbone_biases(backbone)
    frozen = {name for name in side if name.endswith("last_norm.bias")}
    expected = {
        "tinytl-b": biases,
        "tinytl-l": side,
        "tinytl-lb": biases | side - frozen,
    }[method] | last_layer(top)
    assert trained_names(top) == expected
    assert bool(side) == (method != "tinytl-b")
    found = gradients(top)
    assert found.keys() == expected
    assert [name for name, gradient in found.items() if not gradient.any()] == []
    step = TrainingStep(top, Sgd())
    assert step.named("parameter").keys() == expected
    assert not step.named("statistic")


def test_module_against_its_equations() -> None:
    """Written with PyTorch's own norm, standard deviation and resize."""
    top = moved(prepared("tinytl-l", "mbv2-0.35").top)
    side = top.side["2"]
    assert isinstance(side, SideBranch)
    assert side.conv.stride == (2, 2)
    x = torch.randn(2, side.conv.in_channels, 32, 32)

    def kernel(conv: nn.Conv2d) -> torch.Tensor:
        std, mean = torch.std_mean(conv.weight.flatten(1), dim=1)
        return (conv.weight - mean.view(-1, 1, 1, 1)) / (std.view(-1, 1, 1, 1) + 1e-5)

    with torch.no_grad():
        main = top.features["2"](x)
        y = functional.conv2d(functional.avg_pool2d(x, 2), kernel(side.conv), None, 2, 2, groups=2)
        y = functional.relu(functional.group_norm(y, 1, side.inner_norm.weight, None, 1e-3))
        y = functional.conv2d(y, kernel(side.project))
        scale, shift = side.last_norm.weight, side.last_norm.bias
        y = functional.group_norm(y, 1, scale, shift, 1e-3)
        y = functional.interpolate(y, (16, 16), mode="bilinear")
        found = side(x)
    assert found.shape[2:] == (8, 8)
    resized = functional.interpolate(found, (16, 16), mode="bilinear")
    torch.testing.assert_close(main + resized, main + y)


def test_results_of_modules_are_resized_and_added() -> None:
    top = moved(prepared("tinytl-l", "mbv2-0.35").top).eval()
    with torch.no_grad():
        h = PICTURES
        for name, layer in top.features.items():
            y = layer(h)
            if name in top.side:
                y = y + functional.interpolate(top.side[name](h), y.shape[2:], mode="bilinear")
            h = y
        expected = top.classifier["1"](h.mean((2, 3)))
        torch.testing.assert_close(top(PICTURES), expected)
        assert not torch.allclose(expected, pretrained("mbv2-0.35")(PICTURES), rtol=0.01)


def kernels(backbone: str, resolution: int) -> list[int]:
    with torch.device("meta"):
        network = find_backbone(backbone).build(2)
        top = find_method("tinytl-l").prepare(network, None, resolution=resolution).top
    convs = [branch.conv for branch in top.side.values() if isinstance(branch, SideBranch)]
    return [conv.kernel_size[0] for conv in convs]


def test_kernels_shrink_with_the_maps() -> None:
    """MobileNetV2 without its first block: maps of 112, 56, 28, 14 and 7 pixels go in."""
    assert kernels("mbv2", 224) == [5] * 13 + [3] * 3
    assert kernels("mbv2", 64) == [5] * 3 + [3] * 3 + [1] * 10
    with torch.device("meta"):
        top = find_method("tinytl-l").prepare(find_backbone("mbv2").build(2), None).top
    top(torch.empty(2, 3, 32, 32, device="meta"))


def test_module_on_a_pooled_map_of_one_pixel_takes_the_mean() -> None:
    top = moved(prepared("tinytl-l", "mbv2-0.35").top)
    side = top.side["17"]
    assert isinstance(side, SideBranch)
    assert isinstance(side.pool, nn.AdaptiveAvgPool2d)
    assert side.conv.kernel_size == (1, 1)
    assert side(torch.randn(2, side.conv.in_channels, 2, 2)).shape[2:] == (1, 1)


def test_size_on_proxylessnas_mobile() -> None:
    """Training memory of L and L+B is published as 37.2 MB for 100 classes: 26.5 MB of
    activations (`core/accounting/account.py`) and 10.7 MB of parameters, of which the modules of
    this count are 7.3.
    """
    with torch.device("meta"):
        top = find_method("tinytl-l").prepare(find_backbone("proxyless").build(100), None).top
    in_channels, size, expected = ROWS[0][2], 112, 0
    for _, _, out_channels, stride in ROWS[1:]:
        kernel = 5 if size // 2 >= 5 else 3
        convolutions = in_channels * in_channels // 2 * kernel**2 + in_channels * out_channels
        expected += convolutions + 2 * (in_channels + out_channels)
        in_channels, size = out_channels, size // stride
    side = sum(parameter.numel() for parameter in top.side.parameters())
    assert side == expected == 1_816_416
    trained = sum(p.numel() for p in top.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in top.parameters() if not p.requires_grad)
    assert 4 * trained + frozen == pytest.approx(37.2e6 - 26.5e6, rel=0.02)


def test_same_modules_every_time() -> None:
    """Whatever the random numbers of the caller are, which go on as if nothing had been drawn."""
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        transfer = find_method("tinytl-l").prepare(pretrained("mcunet-5fps"), None)
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(seed))
        drawn.append(transfer.top.side.state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


class NormFirst(nn.Module):
    """A block whose norm has no convolution before it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", METHODS)
def test_norm_that_can_not_be_frozen_is_named(method: str) -> None:
    stem = [ConvNormActivation(3, 8, 3, 2, groups=1)]
    network = IrbNetwork("Odd", stem, [NormFirst()], [], nn.Sequential(nn.Linear(8, 2)))
    with pytest.raises(UnsupportedModel, match=r"the norm 1\.body\.0 can't be frozen"):
        find_method(method).prepare(network, None)
