"""The ONNX file with 8-bit weights, and with pictures 8-bit activations as far as labels stay.

| | weights | activations |
|---|---|---|
| without `--data` | 8 bits, rounded for invented pictures | floats |
| with `--data` | 8 bits, rounded for the pictures | 8 bits in the last layers, as many as may |

How many may is measured: half of the pictures calibrate, the other half says how many labels
change. Errors of early activations go through the whole network, so the last layers come first. A
network that is sure of its classes ends with 8 bits throughout, another with floats.

Ranges measured anew in every run (onnxruntime's dynamic quantization) are no third way: of
MobileNetV2 at 224 px they changed 58 % of the labels and took 15 times as long (onnxruntime 1.31,
x86-64).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from mobiletl.device.errors import BadPictures
from mobiletl.export.finish.finished import Finished
from mobiletl.export.finish.int8_activations import convolutions, quantize_activations
from mobiletl.export.finish.int8_check import Agreement, agreement, logits_of
from mobiletl.export.finish.int8_noise import noise_pictures
from mobiletl.export.finish.int8_weights import Kernel, pack, put_values, rounded_kernels
from mobiletl.export.finish.to_onnx import onnx_model
from mobiletl.export.pictures import Prepared, picture_files, prepared

Images = list[npt.NDArray[np.float32]]
# Labels that may change.
BAR = 0.01
# Pictures that a network was trained on are easier for it than those it will see: where they let
# expect 0.5 %, it was 1.6 % of others (docs/finish.md).
_AIM = BAR / 4
# The search ends when it knows the number of layers to this many.
_STEP = 3


@dataclass(frozen=True)
class Int8:
    """`contents` by suffix; `summary` says in a line what has 8 bits and what that changes.

    `skipped` has a line for each picture that could not be read.
    """

    contents: Mapping[str, bytes]
    summary: str
    skipped: tuple[str, ...] = ()


def render_int8(finished: Finished, data: Path | None) -> Int8:
    """One `.onnx` file; `data` is a folder of pictures like those it will see.

    It is written even where the bar can't be held: the summary says so then. Raises BadPictures.
    """
    model = onnx_model(finished)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    size = finished.manifest.input
    skipped: tuple[str, ...] = ()
    if data is None:
        kernels = rounded_kernels(model, noise_pictures(size))
        pack(model, kernels)
        summary = (
            "int8: 8-bit weights, activations stay floats; without pictures (--data) nobody knows "
            "how many labels that changes"
        )
    else:
        pictures = _pictures(data, finished)
        images, skipped = list(pictures.images), pictures.skipped
        # Every other one to calibrate on, the rest to compare labels on.
        model, summary = _with_pictures(model, images[::2], images[1::2])
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    return Int8({".onnx": model.SerializeToString()}, summary, skipped)


def _pictures(data: Path, finished: Finished) -> Prepared:
    pictures = prepared(picture_files(data), finished.manifest.input)
    if len(pictures.images) < 2:
        raise BadPictures(
            f"--data {data}: one readable picture, expected two or more: some to calibrate on, "
            "others to compare labels on"
        )
    return pictures


def _with_pictures(
    model: onnx.ModelProto, calibrating: Images, checking: Images
) -> tuple[onnx.ModelProto, str]:
    """The version with most activations in 8 bits that changes few enough labels."""
    wanted = logits_of(model, checking)
    kernels = rounded_kernels(model, calibrating)
    put_values(model, kernels)

    def attempt(layers: int) -> tuple[onnx.ModelProto, Agreement]:
        version = quantize_activations(model, calibrating, layers) if layers else _copy(model)
        pack(version, kernels)
        return version, agreement(wanted, logits_of(version, checking))

    everything = convolutions(model)
    fits, fails = 0, everything + _STEP
    best = None
    trial = everything
    while fails - fits > _STEP:
        version = attempt(trial)
        if version[1].expected <= _AIM:
            fits, best = trial, version
        else:
            fails = trial
        trial = (fits + fails) // 2
    chosen, found = best or attempt(0)
    return chosen, _summary(fits, everything, kernels, found)


def _summary(layers: int, everything: int, kernels: Mapping[str, Kernel], found: Agreement) -> str:
    where = f"in the last {layers} of {everything} convolutions" if layers else "nowhere"
    measured = (
        f"int8: {found.changed} of {found.pictures} pictures not calibrated on get another label, "
        f"{found.expected:.1%} are to be expected of such pictures"
    )
    kept = "" if found.expected <= BAR else f", ABOVE THE {BAR:.0%} AIMED AT"
    return f"{measured}{kept}; 8-bit weights in {len(kernels)} layers, 8-bit activations {where}"


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
