"""What the frozen layers' maps are on pictures: ranges and means, with which they are rounded.

Letters: C channels of a map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Floats = npt.NDArray[np.float32]


@dataclass
class Ranges:
    """By name of a map: its smallest and largest number, and its mean by channel f32[C]."""

    of: dict[str, tuple[float, float]] = field(default_factory=dict)
    mean: dict[str, Floats] = field(default_factory=dict)


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
    found, count = Ranges(), 0
    for image in images:
        count += 1
        maps = [image, *session.run(names, {inputs[0]: image})]
        for name, value in zip([*inputs, *names], maps, strict=True):
            low, high = found.of.get(name, (0.0, 0.0))
            found.of[name] = (min(low, float(value.min())), max(high, float(value.max())))
            if value.ndim == 4:
                mean = value.mean(axis=(0, 2, 3))
                found.mean[name] = found.mean.get(name, np.zeros_like(mean)) + mean
    found.mean = {name: total / np.float32(count) for name, total in found.mean.items()}
    return found
