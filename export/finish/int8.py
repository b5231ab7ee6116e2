"""The ONNX file with 8-bit weights, and with pictures to calibrate on 8-bit activations as well.

| | activations | needs | gains |
|---|---|---|---|
| with `--data` | 8 bits, ranges fixed by onnxruntime's own quantizer | pictures | size, speed |
| without | floats | nothing | size: under a third |

Ranges measured anew in every run (onnxruntime's dynamic quantization) are no third way: of
MobileNetV2 at 224 px they changed 58 % of the labels and took 15 times as long (onnxruntime 1.31,
x86-64). Weights have a scale per output channel. Without `--data` depthwise kernels stay floats:
they are 7 % of the file and take as long to expand as the rest of the network takes to run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from mobiletl.export.finish.finished import Finished
from mobiletl.export.finish.pictures import normalised, picture_files
from mobiletl.export.finish.to_onnx import onnx_model

Images = npt.NDArray[np.float32]
_WEIGHTED = ("Conv", "Gemm")
_FEWEST_INPUTS = 4
_LARGEST = 127


def render_int8(finished: Finished, data: Path | None) -> dict[str, bytes]:
    """One `.onnx` file; `data` is a folder of pictures like those it will see."""
    files = None if data is None else picture_files(data)
    model = onnx_model(finished)
    if files is None:
        quantize_weights(model)
    else:
        facts = {entry.key: entry.value for entry in model.metadata_props}
        model = _calibrated(model, _Pictures(files, finished.manifest["input"]))
        helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    return {".onnx": model.SerializeToString()}


def quantize_weights(model: onnx.ModelProto) -> None:
    """Store kernels [C',C,..] as int8 with a scale per output channel C', in place."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    read = {node.input[1] for node in model.graph.node if node.op_type in _WEIGHTED}
    nodes = []
    for name in sorted(read & constants.keys()):
        weight = numpy_helper.to_array(constants[name])
        if weight.shape[1] < _FEWEST_INPUTS:
            continue
        largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)))
        scale = np.maximum(largest / _LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
        levels = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        model.graph.initializer.remove(constants[name])
        for suffix, array in (("int8", levels), ("scale", scale)):
            model.graph.initializer.append(numpy_helper.from_array(array, f"{name}.{suffix}"))
        inputs = [f"{name}.int8", f"{name}.scale"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=0))
    computing = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(computing)


def _calibrated(model: onnx.ModelProto, pictures: CalibrationDataReader) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as scratch:
        plain, prepared, done = (Path(scratch) / f"{n}.onnx" for n in ("plain", "prepared", "done"))
        plain.write_bytes(model.SerializeToString())
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            done,
            pictures,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(done)


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Hands the quantizer one normalised picture at a time."""

    def __init__(self, files: list[Path], size: dict[str, Any]) -> None:
        self._images: Iterator[Images] = normalised(files, size)

    def get_next(self) -> dict[str, Images] | None:
        """The next input, None at the end."""
        image = next(self._images, None)
        return None if image is None else {"images": image}
