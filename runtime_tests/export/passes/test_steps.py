"""Layers that methods put into a top, as exported training steps: gradients, prediction, plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime_tests.support.layer_steps import LayerStep


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Standardised(nn.Conv2d):
    """A kernel that is computed from a trained one, and stays a kernel."""

    def forward(self, x: Tensor) -> Tensor:
        dims = (1, 2, 3)
        centred = self.weight - torch.mean(self.weight, dims, keepdim=True)
        variance = torch.var(self.weight, dims, unbiased=False, keepdim=True)
        kernel = centred / torch.sqrt(variance + 1e-5)
        return functional.conv2d(x, kernel, self.bias, self.stride, self.padding, 1, self.groups)


class Beside(nn.Module):
    """A branch, resized to the map it is added to."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        return x + functional.interpolate(
            y, size=(x.shape[2], x.shape[3]), mode="bilinear", align_corners=False
        )


def norm(channels: int, groups: int, train_scale: bool = True) -> nn.GroupNorm:
    layer = nn.GroupNorm(groups, channels)
    nn.init.uniform_(layer.weight, 0.5, 1.5)
    nn.init.normal_(layer.bias)
    layer.weight.requires_grad_(train_scale)
    return layer


def batch_norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    layer.num_batches_tracked = None  # as core/methods/exact.py leaves it
    # Wide enough for the bends behind it: where an activation is a parabola, the mean over a map
    # is the same for every kernel, and there is no gradient to compare.
    nn.init.uniform_(layer.weight, 3.0, 4.0)
    return layer


def frozen_kernel(conv: nn.Conv2d) -> nn.Conv2d:
    conv.weight.requires_grad_(False)
    return conv


def gates(x: Tensor) -> Tensor:
    """Every kind of arithmetic between maps, numbers and [N,C,1,1]."""
    means = torch.mean(x, dim=(2, 3), keepdim=True)
    y = torch.sigmoid(x) * x.pow(2) + x.abs() - 6 / (x * x + 2) + torch.rsqrt(x * x + 1)
    y = y * torch.sigmoid(means) - means + (3 - x) * torch.exp(-x.abs())
    return torch.cat([y, functional.adaptive_avg_pool2d(y, 1) + 0 * y], dim=1)


PER_CHANNEL = torch.linspace(0.5, 1.5, 4).view(-1, 1, 1)


def arithmetic(x: Tensor) -> Tensor:
    spread = torch.var(x, dim=(2, 3), keepdim=True)
    return (x * PER_CHANNEL - spread) / torch.sqrt(spread + 1.0)


torch.manual_seed(0)


@dataclass(frozen=True)
class Case:
    layer: nn.Module
    channels: int
    shape: tuple[int, int, int]
    below: bool = True


CASES = {
    "stem on pictures": Case(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), batch_norm(8), nn.Hardswish()),
        8,
        (3, 17, 16),
        below=False,
    ),
    "lite residual": Case(
        Beside(
            nn.AvgPool2d(2, 2),
            Standardised(8, 8, 5, 2, 2, groups=2, bias=False),
            norm(8, 2),
            nn.Sigmoid(),
            Standardised(8, 8, 1, bias=False),
            norm(8, 1, train_scale=False),
        ),
        8,
        (8, 9, 7),
    ),
    "kernels frozen, biases trained": Case(
        nn.Sequential(
            frozen_kernel(nn.Conv2d(4, 8, 3, 2, 1)),
            frozen_kernel(nn.Conv2d(8, 8, 3, 1, 1, groups=8)),
            frozen_kernel(nn.Conv2d(8, 6, 1, groups=2)),
            frozen_kernel(nn.Conv2d(6, 6, 3, 1, 1, groups=3)),
        ),
        6,
        (4, 6, 5),
    ),
    "pools": Case(
        nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True),
            nn.AvgPool2d(2, 2),
            nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        ),
        4,
        (4, 9, 11),
    ),
    "gates": Case(Function(gates), 8, (4, 3, 5)),
    "arithmetic": Case(Function(arithmetic), 4, (4, 5, 3)),
}


@cache
def checked(name: str) -> onnx.ModelProto:
    """The step of a case, whose numbers and plan are right."""
    case = CASES[name]
    return LayerStep.around(case.layer, case.channels, case.shape, case.below).check()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_torchscript_step_equals_autograd(name: str) -> None:
    case = CASES[name]
    LayerStep.around(case.layer, case.channels, case.shape, case.below).check_torchscript()


@pytest.mark.parametrize("name", CASES)
def test_exported_step_equals_autograd(name: str) -> None:
    checked(name)


def test_onnx_itself_agrees() -> None:
    """Its reference evaluator runs no convolution in groups."""
    branch = Beside(nn.AvgPool2d(2, 2), nn.Conv2d(4, 4, 3, 2, 1), norm(4, 2))
    LayerStep.around(branch, 4, (4, 6, 6)).check(batches=(2,), reference=True)


def test_stem_reads_the_pictures_as_they_are() -> None:
    """No copy of them for the forward pass, one for the kernel's gradient; none is unfolded."""
    model = checked("stem on pictures")
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    assert convolutions[0].input[0] == "h"
    readers = [node.op_type for node in model.graph.node if "h" in node.input]
    assert sorted({kind for kind in readers if kind != "Shape"}) == ["Conv", "Transpose"]
    assert not any(node.op_type == "ConvTranspose" for node in model.graph.node)


def test_frozen_kernels_leave_the_maps_unread() -> None:
    """The maps behind a frozen convolution are read once, by the next one."""
    nodes = checked("kernels frozen, biases trained").graph.node
    kernels = [node for node in nodes if node.op_type == "Conv"]
    # Forward only: a dense one each for the first and the last layer; no gradient of a kernel.
    assert len(kernels) == 2
