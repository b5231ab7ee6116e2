"""The frozen tensors of a bundle, read back from the constants of its two graphs.

`features.onnx` lists the layers of the prefix in the order they run: every convolution or linear
layer is one Conv or Gemm with constants. `predict.onnx` holds what is frozen in the top, each
tensor under its name there: kernels, and of norms of which only the shift b is trained the scale s
and the offset o (core/layers/shift_norm.py, core/layers/frozen.py): y = conv(x, s W) + (b - o).
"""

from __future__ import annotations

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

_LAYERS = ("Conv", "Gemm")


def prefix_layers(graph: onnx.GraphProto) -> list[dict[str, Tensor]]:
    """`weight` and `bias` of each layer of a prefix, in the order they run."""
    constants = named_constants(graph)
    return [
        {
            name: constants[value]
            for name, value in zip(("weight", "bias"), node.input[1:], strict=False)
        }
        for node in graph.node
        if node.op_type in _LAYERS
    ]


def layers_as_run(prefix: nn.Module, resolution: int) -> list[tuple[str, nn.Module]]:
    """The convolutions and linear layers of `prefix` by name, in the order they run."""
    names = {module: name for name, module in prefix.named_modules()}
    order: list[tuple[str, nn.Module]] = []
    hooks = [
        module.register_forward_pre_hook(lambda found, _inputs: order.append((names[found], found)))
        for module in names
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        prefix(torch.zeros(1, 3, resolution, resolution))
    for hook in hooks:
        hook.remove()
    return order


def named_constants(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """Every constant by its name; those of the graph's own making are among them."""
    # Copied, because the arrays over a protobuf's bytes are read-only.
    return {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
