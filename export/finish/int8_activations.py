"""8-bit activations in the last layers of a network, by onnxruntime's own quantizer.

The logits, and the average and linear layers before them, stay floats: they take no time, and on
their last digits hang the labels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Floats = npt.NDArray[np.float32]


def convolutions(model: onnx.ModelProto) -> int:
    """How many layers `quantize_activations` chooses from."""
    return sum(node.op_type == "Conv" for node in model.graph.node)


def quantize_activations(
    model: onnx.ModelProto, images: list[Floats], layers: int
) -> onnx.ModelProto:
    """`model` with weights and activations of its last `layers` convolutions in 8 bits.

    Ranges are the smallest and the largest value that `images` [1,3,R,R] give.
    """
    with tempfile.TemporaryDirectory() as scratch:
        plain, prepared, done = (Path(scratch) / f"{n}.onnx" for n in ("plain", "prepared", "done"))
        plain.write_bytes(model.SerializeToString())
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            done,
            _Pictures(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_quantize=_nodes(onnx.load(prepared), layers),
        )
        return onnx.load(done)


def _nodes(model: onnx.ModelProto, layers: int) -> list[str]:
    """Names of the last `layers` convolutions and of all between them and the last average."""
    nodes = model.graph.node
    first = [i for i, node in enumerate(nodes) if node.op_type == "Conv"][-layers]
    average = max((i for i, node in enumerate(nodes) if node.op_type == "ReduceMean"))
    return [node.name for node in nodes[first:average]]


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Hands the quantizer one normalised picture at a time."""

    def __init__(self, images: list[Floats]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Floats] | None:
        """The next input, None at the end."""
        image = next(self._images, None)
        return None if image is None else {"images": image}
