"""What the frozen layers' maps are on pictures: ranges, and what convolutions multiply.

Letters: C channels of a map, G groups of a convolution, D = C / G * height * width of a kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

# Of a map at most so many places a side: neighbours say nearly the same.
_MOST_PLACES = 14


@dataclass
class Columns:
    """What a kernel is multiplied with, place by place: D numbers for each of G groups."""

    total: Doubles
    """f64[G,D]"""
    products: Doubles
    """f64[G,D,D]"""
    count: int = 0

    def mean(self) -> Doubles:
        """Return f64[G,D]."""
        return self.total / self.count

    def covariance(self) -> Doubles:
        """Return f64[G,D,D]."""
        mean = self.mean()
        found: Doubles = self.products / self.count - mean[:, :, None] * mean[:, None, :]
        return found


@dataclass
class Ranges:
    """`of` is the smallest and the largest number of a map by its name, `columns` are what a
    convolution's kernel is multiplied with, by the kernel's name.
    """

    of: dict[str, tuple[float, float]] = field(default_factory=dict)
    columns: dict[str, Columns] = field(default_factory=dict)


def measured_ranges(model: onnx.ModelProto, images: Iterable[Floats]) -> Ranges:
    """Run `model` on `images`, f32[1,3,R,R] each, and return what its maps were."""
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    inputs = [value.name for value in model.graph.input]
    names = [name for node in model.graph.node for name in node.output]
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    sides = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = Ranges()
    for image in images:
        maps = dict(zip(names, session.run(names, {inputs[0]: image}), strict=True))
        maps[inputs[0]] = image
        for name, value in maps.items():
            low, high = found.of.get(name, (0.0, 0.0))
            found.of[name] = (min(low, float(value.min())), max(high, float(value.max())))
        for node in model.graph.node:
            if node.op_type == "Conv" and len(sides.get(node.input[1], ())) == 4:
                _add_columns(found, node, sides[node.input[1]], maps[node.input[0]])
    return found


def _add_columns(found: Ranges, node: onnx.NodeProto, sides: Sequence[int], x: Floats) -> None:
    columns = columns_at(node, sides, x)
    groups, numbers, places = columns.shape
    known = found.columns.setdefault(
        node.input[1], Columns(np.zeros((groups, numbers)), np.zeros((groups, numbers, numbers)))
    )
    known.total += columns.sum(axis=2)
    known.products += columns @ columns.transpose(0, 2, 1)
    known.count += places


def columns_at(node: onnx.NodeProto, sides: Sequence[int], x: Floats) -> Doubles:
    """Return f64[G,D,places] of the map `x` f32[1,C,..] for a kernel of `sides` [C',C/G,h,w]."""
    given: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    groups = int(given.get("group", 1))
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    padded = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
    high, wide = given.get("dilations", (1, 1))
    span = ((sides[2] - 1) * high + 1, (sides[3] - 1) * wide + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, (1, 2))
    down, across = given.get("strides", (1, 1))
    windows = windows[:, ::down, ::across, ::high, ::wide]
    skips = [-(-side // _MOST_PLACES) for side in windows.shape[1:3]]
    chosen = windows[:, :: skips[0], :: skips[1]].astype(np.float64)
    moved = chosen.transpose(0, 3, 4, 1, 2)
    found: Doubles = moved.reshape(groups, sides[1] * sides[2] * sides[3], -1)
    return found
