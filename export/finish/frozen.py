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

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.finish.bundle_reader import HostBundle

_LAYERS = ("Conv", "Gemm")


def prefix_constants(
    bundle: HostBundle, prefix: nn.Module
) -> list[tuple[nn.Module, dict[str, Tensor]]]:
    """The convolutions and linear layers of `prefix` in the order they run, each with the `weight`
    and `bias` that the bundle has for it. Raises UnsupportedModel where they are not its layers.
    """
    layers = _layers_as_run(prefix, bundle.manifest.input.resolution)
    found = _constants_as_run(bundle.features.graph)
    wanted = [layer.get_parameter("weight").shape for layer in layers]
    if [values["weight"].shape for values in found] != wanted:
        raise UnsupportedModel(
            f"{bundle.path} holds {len(found)} frozen layers that are not the {len(layers)} of "
            f"{bundle.backbone.name}; {bundle.remedy}"
        )
    return list(zip(layers, found, strict=True))


def _constants_as_run(graph: onnx.GraphProto) -> list[dict[str, Tensor]]:
    constants = named_constants(graph)
    return [
        {
            name: constants[value]
            for name, value in zip(("weight", "bias"), node.input[1:], strict=False)
        }
        for node in graph.node
        if node.op_type in _LAYERS
    ]


def _layers_as_run(prefix: nn.Module, resolution: int) -> list[nn.Module]:
    order: list[nn.Module] = []
    hooks = [
        module.register_forward_pre_hook(lambda found, _inputs: order.append(found))
        for module in prefix.modules()
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
