"""The frozen layers with 8-bit weights and activations, as a graph of standard operators.

A convolution whose kernel is a constant becomes QLinearConv, together with the Clip that only it
feeds: bytes saturate where the Clip would cut. What is between convolutions and is none (sums of
residual blocks, gates) stays in floats, which are made from bytes and to bytes around it; so errors
of rounding do not add up along the residuals.

    q = round(x / s) + z      s = (high - low) / 255      z = round(-low / s)

with one s and z for each map, from `Ranges`, and one s for each output channel of a kernel, whose z
is 0. Kernels have 7 bits, -64 to 64: processors without a dot product of bytes add two products
u8 * s8 in 16 bits, and 2 * 255 * 64 is the most that they hold. Depthwise kernels, which
onnxruntime multiplies in a way of its own, have 8: there the largest sums are exact (a test, on
x86-64 with AVX2 and no such dot product).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from mobiletl.export.prefix.ranges import Columns, Ranges
from mobiletl.export.prefix.rounding import rounded

LARGEST_WEIGHT, LARGEST_ALONE = 64, 127
_LEVELS = 255
_LARGEST_BIAS = 1 << 30

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """x = s (q - z), q in 0 to 255."""

    s: np.float32
    z: np.uint8


def scale_of(low: float, high: float) -> Scale:
    """Return the scale whose bytes span `low` to `high`, and 0, which is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    s = np.float32((high - low) / _LEVELS) or np.float32(1.0)
    return Scale(s, np.uint8(np.rint(-low / s)))


def in_eight_bits(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Return `model`, a graph of the frozen layers, in 8 bits; it takes and gives the same."""
    rewriting = _Rewriting(model.graph, ranges)
    graph = helper.make_graph(
        rewriting.nodes,
        model.graph.name,
        list(model.graph.input),
        list(model.graph.output),
        rewriting.constants(),
    )
    found = helper.make_model(
        graph,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    onnx.checker.check_model(found, full_check=True)
    return found


class _Rewriting:
    def __init__(self, graph: onnx.GraphProto, ranges: Ranges) -> None:
        self._ranges = ranges
        self._given = {tensor.name: tensor for tensor in graph.initializer}
        self._made: dict[str, npt.NDArray[Any]] = {}
        self._floats = {value.name for value in graph.input} | set(self._given)
        self._bytes: dict[str, Scale] = {}
        self.nodes: list[onnx.NodeProto] = []
        clips = fused_clips(graph)
        fused = {clip.output[0] for clip in clips.values()}
        for node in graph.node:
            if is_convolution(node, self._given):
                self._convolution(node, clips.get(node.output[0]))
            elif node.output[0] not in fused:
                for name in node.input:
                    self._as_floats(name)
                self.nodes.append(node)
                self._floats.update(node.output)
        for value in graph.output:
            self._as_floats(value.name)

    def constants(self) -> list[onnx.TensorProto]:
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self._given.items() if name in read]
        return kept + [numpy_helper.from_array(a, name) for name, a in self._made.items()]

    def _convolution(self, node: onnx.NodeProto, clip: onnx.NodeProto | None) -> None:
        x, output = node.input[0], node.output[0] if clip is None else clip.output[0]
        kernel = numpy_helper.to_array(self._given[node.input[1]])
        scale_x, scale_y = self._as_bytes(x), self._scale_out(output, clip)
        bias = np.zeros(len(kernel), np.float32)
        if len(node.input) > 2:
            bias = numpy_helper.to_array(self._given[node.input[2]])
        # A bias has 32 bits in units of both scales.
        least = np.abs(bias) / (scale_x.s * _LARGEST_BIAS)
        columns = self._ranges.columns[node.input[1]]
        largest = LARGEST_ALONE if _is_depthwise(kernel, columns) else LARGEST_WEIGHT
        levels, scale_w, lost = rounded(kernel, columns, largest, least.astype(np.float32))
        bias = bias + lost
        names = [
            _bytes_of(x),
            *self._scale(x, scale_x),
            self._make(f"{node.input[1]}/q", levels),
            self._make(f"{node.input[1]}/s", scale_w),
            self._make(f"{node.input[1]}/z", np.zeros(len(kernel), np.int8)),
            *self._scale(output, scale_y),
            self._make(
                f"{node.input[1]}/b", np.rint(bias / (scale_x.s * scale_w)).astype(np.int32)
            ),
        ]
        made = helper.make_node("QLinearConv", names, [_bytes_of(output)], node.name)
        made.attribute.extend(node.attribute)
        self.nodes.append(made)
        self._bytes[output] = scale_y

    def _scale_out(self, name: str, clip: onnx.NodeProto | None) -> Scale:
        """Return the scale of a convolution's map. One whose Clip let nothing through on all
        pictures may do so on others, and is cut all the same.
        """
        low, high = self._ranges.of[name]
        if high == 0 and clip is not None and clip.op_type == "Clip":
            high = float(numpy_helper.to_array(self._given[clip.input[2]]))
        return scale_of(low, high)

    def _as_bytes(self, name: str) -> Scale:
        if name not in self._bytes:
            scale = scale_of(*self._ranges.of[name])
            inputs = [name, *self._scale(name, scale)]
            self.nodes.append(helper.make_node("QuantizeLinear", inputs, [_bytes_of(name)]))
            self._bytes[name] = scale
        return self._bytes[name]

    def _as_floats(self, name: str) -> None:
        if name and name not in self._floats:
            inputs = [_bytes_of(name), *self._scale(name, self._bytes[name])]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name]))
            self._floats.add(name)

    def _scale(self, name: str, scale: Scale) -> tuple[str, str]:
        return (
            self._make(f"{name}/s", np.array(scale.s, np.float32)),
            self._make(f"{name}/z", np.array(scale.z, np.uint8)),
        )

    def _make(self, name: str, array: npt.NDArray[Any]) -> str:
        self._made[name] = array
        return name


def is_convolution(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Return whether a node is a convolution in two dimensions whose kernel and bias are fixed."""
    return (
        node.op_type == "Conv"
        and all(name in constants for name in node.input[1:])
        and len(constants[node.input[1]].dims) == 4
    )


def fused_clips(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return by a convolution's output the Clip that alone reads it, and cuts below 0 and above a
    constant, or the Relu.
    """
    readers: dict[str, list[onnx.NodeProto]] = {value.name: [] for value in graph.output}
    results = set(readers)
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        name = node.output[0]
        if node.op_type != "Conv" or name in results or len(readers.get(name, [])) != 1:
            continue
        reader = readers[name][0]
        if reader.op_type == "Relu" or (
            reader.op_type == "Clip"
            and len(reader.input) == 3
            and all(bound in constants for bound in reader.input[1:])
            and constants[reader.input[1]] == 0
        ):
            found[name] = reader
    return found


def _is_depthwise(kernel: Floats, columns: Columns) -> bool:
    return kernel.shape[:2] == (columns.total.shape[0], 1)


def _bytes_of(name: str) -> str:
    return f"{name}/q"
