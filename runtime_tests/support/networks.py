"""Small networks and training steps for tests, with norms as training leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Target

from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.core.methods import find_method
from mobiletl.core.optimizers import Optimizer, Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.export.tracing.functions import NEXT, trace_train_step
from mobiletl.export.tracing.trace import Traced

WIDTH = 0.1
CLASSES = 3
RESOLUTION = 64


def unsettle(module: nn.Module, seed: int = 0) -> None:
    """Random scales, shifts and statistics for every batch norm, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.uniform_(-0.5, 0.5, generator=generator)
                norm.running_mean.uniform_(-0.5, 0.5, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)


def small_network(seed: int = 0) -> MobileNetV2:
    """MobileNetV2 with 8 to 32 channels but for the head's 1280, in eval mode."""
    torch.manual_seed(seed)
    network = MobileNetV2(CLASSES, WIDTH)
    unsettle(network, seed)
    return network.eval()


def small_transfer(method: str, blocks: int | None, seed: int = 0) -> Transfer:
    return find_method(method).prepare(small_network(seed), blocks)


def small_step(
    method: str, blocks: int | None, optimizer: Optimizer | None = None, freeze: str = ""
) -> TrainingStep:
    """A step of the small network; `freeze` names a parameter of the top that is not trained."""
    top = small_transfer(method, blocks).top
    if freeze:
        top.get_parameter(freeze).requires_grad_(False)
    return TrainingStep(top, optimizer or Sgd())


def feature_shape(blocks: int | None, resolution: int = RESOLUTION) -> tuple[int, int, int]:
    """[C,h,w] of the feature map below the top `blocks` blocks of the small network."""
    h = small_transfer("ft-last" if blocks is None else "ft-blocks", blocks).prefix(
        torch.zeros(1, 3, resolution, resolution)
    )
    _, channels, height, width = h.shape
    return channels, height, width


def step_arguments(
    step: TrainingStep, shape: Sequence[int], batch: int = 4, lr: float = 0.1
) -> list[Tensor]:
    """State, feature map, labels and rate; slots are not zero, as after some steps."""
    generator = torch.Generator().manual_seed(3)
    state = [
        torch.rand(entry.value.shape, generator=generator) if entry.role == "slot" else entry.value
        for entry in step.entries
    ]
    h = torch.randn(batch, *shape, generator=generator)
    return [*state, h, torch.arange(batch) % CLASSES, torch.tensor(lr)]


def trace_step(step: TrainingStep, shape: Sequence[int]) -> Traced:
    """The step before any pass."""
    channels, height, width = shape
    return trace_train_step(step, (channels, height, width))


class _Interpreter(fx.Interpreter):
    """Runtimes know no strides: `view` may find its input in any order."""

    def call_function(self, target: Target, args: Any, kwargs: dict[str, Any]) -> Any:
        if target is torch.ops.aten.view.default:
            target = torch.ops.aten.reshape.default
        return super().call_function(target, args, kwargs)


def run_traced(traced: Traced, arguments: Sequence[Tensor]) -> dict[str, Tensor]:
    """The graph's outputs by name; the arguments stay as they are."""
    results = _Interpreter(traced.graph).run(*(argument.clone() for argument in arguments))
    return dict(zip(traced.outputs, results, strict=True))


def run_eager(step: TrainingStep, arguments: Sequence[Tensor]) -> dict[str, Tensor]:
    """The step's outputs by name, from PyTorch's own autograd."""
    *state, h, labels, lr = arguments
    names = ["loss", "correct", *(e.name + NEXT for e in step.entries)]
    return dict(zip(names, step.train(state, h, labels, lr), strict=True))


def count(traced: Traced, target: object) -> int:
    """How many nodes of the graph call `target`."""
    return sum(node.target is target for node in traced.graph.graph.nodes)
