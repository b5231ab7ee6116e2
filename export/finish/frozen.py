"""The frozen tensors of a bundle, read back from the constants of its two graphs.

`features.onnx` lists the layers of the prefix in the order they run: every convolution or linear
layer is one Conv or Gemm with constants. In `predict.onnx` a norm of which only the shift is
trained has become two constants (core/layers.py): its kernel is multiplied by a scale s, and from
its shift b an offset o is subtracted, y = conv(x, s W) + (b - o).
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from mobiletl.core.errors import UnsupportedModel

_LAYERS = ("Conv", "Gemm")


@dataclass(frozen=True)
class Affine:
    """A norm in inference mode: x * scale + (shift - offset), each [C]."""

    scale: Tensor
    offset: Tensor


def prefix_layers(graph: onnx.GraphProto) -> list[dict[str, Tensor]]:
    """`weight` and `bias` of each layer of a prefix, in the order they run."""
    constants = _constants(graph)
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


def shift_only_norm(graph: onnx.GraphProto, conv: str, norm: str) -> Affine:
    """The constants of the norm called `norm`, which follows the convolution called `conv`."""
    constants = _constants(graph)
    reshaped = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Reshape"}
    scale = _partner(graph, "Mul", f"{conv}.weight")
    offset = _partner(graph, "Sub", f"{norm}.bias")
    scale = reshaped.get(scale, scale)
    if scale not in constants or offset not in constants:
        raise UnsupportedModel(
            f"the scale and the statistics of {norm} are neither trained nor constants that "
            "`mobiletl finish` can read; this method cannot be finished yet"
        )
    return Affine(constants[scale].flatten(), constants[offset].flatten())


def _partner(graph: onnx.GraphProto, kind: str, first: str) -> str:
    """The second operand of the operator `kind` that reads `first`, or nothing."""
    found = (n.input[1] for n in graph.node if n.op_type == kind and n.input[0] == first)
    return next(found, "")


def _constants(graph: onnx.GraphProto) -> dict[str, Tensor]:
    # Copied, because the arrays over a protobuf's bytes are read-only.
    return {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
