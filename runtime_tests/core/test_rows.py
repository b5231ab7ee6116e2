"""Blocks of any style taken apart into rows: which are found, and that nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.shift_norm import is_conv_norm_activation
from mobiletl.core.rows import as_rows
from runtime_tests.support.networks import unsettle


class Attributes(nn.Module):
    """Layers as attributes, activations as functions and as one layer that serves twice."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.conv2(y)))
        return x + self.act(self.bn3(self.conv3(y)))


class Flat(nn.Sequential):
    """Two rows and a half in one `nn.Sequential`, as in torchvision's MNASNet."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
            *(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()),
            *(nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)),
        )


class Called(nn.Module):
    """Rows behind methods and functions of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.b = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.b(self.a(x).relu()))


def rows(module: nn.Module) -> dict[str, int]:
    """Every `nn.Sequential` inside by name, with its length."""
    return {
        name: len(found)
        for name, found in module.named_modules()
        if isinstance(found, nn.Sequential)
    }


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Attributes(nn.ReLU()), {"conv1": 3, "conv2": 3, "conv3": 3}),
        # An activation without a mask stays where it is.
        (Attributes(nn.SiLU()), {"conv1": 3, "conv2": 2, "conv3": 2}),
        (Flat(), {"0": 3, "3": 3, "6": 2}),
        (Called(), {"a.0": 3, "b.0": 3}),
    ],
    ids=["attributes", "silu", "flat", "called"],
)
def test_rows_are_found_and_compute_the_same(block: nn.Module, expected: dict[str, int]) -> None:
    torch.manual_seed(0)
    original = copy.deepcopy(block)
    unsettle(original)
    taken_apart = as_rows(copy.deepcopy(original))
    assert rows(taken_apart) == expected
    known = [m for m in taken_apart.modules() if is_conv_norm_activation(m)]
    assert len(known) == sum(length == 3 for length in expected.values())
    assert sum(p.numel() for p in taken_apart.parameters()) == sum(
        p.numel() for p in original.parameters()
    )
    assert len(taken_apart.state_dict()) == len(original.state_dict())
    for mode in (True, False):
        x = torch.randn(2, 4, 6, 6)
        expected_y, y = original.train(mode)(x), taken_apart.train(mode)(x)
        assert torch.equal(y, expected_y)


def test_tensors_are_shared() -> None:
    block = Flat()
    conv = as_rows(block).get_submodule("0.0")
    assert conv.get_parameter("weight") is block.get_parameter("0.weight")


class Twice(nn.Module):
    """A map that is read a second time between convolution and norm, and between norm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        y = functional.relu(self.bn1(y)) + y
        z = self.bn2(self.conv2(y))
        return functional.relu(z) + z


def test_a_map_that_others_read_ends_no_row() -> None:
    block = Twice()
    taken_apart = as_rows(block)
    assert rows(taken_apart) == {"conv2": 2}
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(taken_apart.eval()(x), block.eval()(x))


class Shared(nn.Module):
    """One norm behind two convolutions is no row: it can't be in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv2(functional.relu(self.bn(self.conv1(x))))))


def test_a_layer_that_is_called_twice_is_in_no_row() -> None:
    assert rows(as_rows(Shared())) == {}


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_path_that_depends_on_values_is_refused() -> None:
    with pytest.raises(
        UnsupportedModel, match=r"^Deciding can't be taken apart \(.*rows"
    ) as caught:
        as_rows(Deciding())
    assert "\n" not in str(caught.value)
