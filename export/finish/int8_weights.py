"""8-bit kernels, rounded so that a layer's outputs change least, not its weights.

Match: 1x1 convolutions and linear layers, kernels W [C',C]; a scale per output channel C'. First
convolution, depthwise kernels and the smallest 1x1 ones stay floats: they are a few per cent of the
weights and most of the damage.

Levels are those of `export/levels.py`, for the inputs X [C,L] that the layer sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from mobiletl.export.levels import nearest_outputs

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
_LARGEST = 127
# Of all weights; a kernel with less stays float.
_SMALLEST_SHARE = 1 / 300


@dataclass(frozen=True)
class Kernel:
    """Levels int8 [C',C,..] and a scale f32 [C'] per output channel."""

    levels: npt.NDArray[np.int8]
    scale: Floats

    def values(self) -> Floats:
        """The weights that levels and scale stand for."""
        scale = self.scale.reshape(-1, *[1] * (self.levels.ndim - 1))
        return (self.levels * scale).astype(np.float32)


def rounded_kernels(model: onnx.ModelProto, images: Iterable[Floats]) -> dict[str, Kernel]:
    """The kernels of `model` by name; `images` [1,3,R,R] are what the layers' inputs come from."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    share = _SMALLEST_SHARE * sum(math.prod(tensor.dims) for tensor in constants.values())
    layers = {
        node.input[1]: node.input[0]
        for node in _weighted(model)
        if math.prod(constants[node.input[1]].dims[2:]) == 1
        and constants[node.input[1]].dims[1] > 1
        and math.prod(constants[node.input[1]].dims) >= share
    }
    hessians = _hessians(model, set(layers.values()), images)
    return {
        name: rounded(numpy_helper.to_array(constants[name]), hessians[source])
        for name, source in layers.items()
    }


def rounded(weight: Floats, hessian: Doubles) -> Kernel:
    """A kernel [C',C,..] whose rounding suits inputs with X X' = `hessian` [C,C]."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.abs(rows).argmax(axis=1)
    peak = np.take_along_axis(np.abs(rows), largest[:, None], axis=1)[:, 0]
    scale = np.maximum(peak / _LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
    # The largest weight keeps the largest level: onnxruntime's quantizer finds the scale by it.
    levels = nearest_outputs(
        rows[None], scale.astype(np.float64)[None], hessian[None], _LARGEST, largest[None]
    )
    return Kernel(levels[0].astype(np.int8).reshape(weight.shape), scale)


def put_values(model: onnx.ModelProto, kernels: Mapping[str, Kernel]) -> None:
    """Round the kernels of `model` in place; they stay floats."""
    for tensor in model.graph.initializer:
        if tensor.name in kernels:
            values = kernels[tensor.name].values()
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def pack(model: onnx.ModelProto, kernels: Mapping[str, Kernel]) -> None:
    """Store the kernels that a layer of `model` still reads as floats in 8 bits, in place."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    read = {node.input[1] for node in _weighted(model)}
    nodes = []
    for name in sorted(read & kernels.keys() & constants.keys()):
        model.graph.initializer.remove(constants[name])
        parts: dict[str, npt.NDArray[Any]] = {
            f"{name}.int8": kernels[name].levels,
            f"{name}.scale": kernels[name].scale,
        }
        for part, array in parts.items():
            model.graph.initializer.append(numpy_helper.from_array(array, part))
        nodes.append(helper.make_node("DequantizeLinear", list(parts), [name], axis=0))
    computing = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(computing)


def _weighted(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]


def _hessians(
    model: onnx.ModelProto, sources: set[str], images: Iterable[Floats]
) -> dict[str, Doubles]:
    """X X' [C,C] of each tensor in `sources`, over all pictures and places."""
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    del shown.graph.output[:]
    names = sorted(sources)
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    sums: dict[str, Doubles] = {}
    for image in images:
        for name, value in zip(names, session.run(names, {"images": image}), strict=True):
            x = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1)
            sums[name] = sums.get(name, np.float64(0)) + x @ x.T
    return sums
