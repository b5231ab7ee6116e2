"""The three functions of a bundle as ONNX models: traced, rewritten, ordered, checked."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from onnxscript import ir
from torch import Tensor

from mobiletl.core.step import Entry, TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.export.lowering.onnx import lower_to_onnx
from mobiletl.export.passes import run_passes
from mobiletl.export.schedule import NEXT, check_in_place, reorder
from mobiletl.export.trace import Input, trace

Shape = tuple[int, int, int]


def state_shape(entry: Entry) -> tuple[int | str, ...]:
    """The shape of a state entry, with "K" for the number of classes."""
    shape = tuple(int(size) for size in entry.value.shape)
    return ("K", *shape[1:]) if entry.per_class else shape


def export_features(transfer: Transfer, resolution: int) -> onnx.ModelProto:
    """images [N,3,R,R] -> h [N,C,h,w]."""

    def features(images: Tensor) -> Sequence[Tensor]:
        return (transfer.prefix(images),)

    images = Input("images", ("N", 3, resolution, resolution))
    return _checked(lower_to_onnx(trace(features, [images], ["h"]), "features"))


def export_train_step(step: TrainingStep, feature_shape: Shape) -> onnx.ModelProto:
    """(state, h, labels, lr) -> (loss, correct, new state), in the order that saves memory."""

    def train(*arguments: Tensor) -> Sequence[Tensor]:
        *state, h, labels, lr = arguments
        return step.train(state, h, labels, lr)

    inputs = [
        *(Input(e.name, state_shape(e)) for e in step.entries),
        Input("h", ("N", *feature_shape)),
        Input("labels", ("N",), torch.int64),
        Input("lr", ()),
    ]
    outputs = ["loss", "correct", *(e.name + NEXT for e in step.entries)]
    model = lower_to_onnx(run_passes(trace(train, inputs, outputs)), "train_step")
    reorder(model)
    check_in_place(model)
    return _checked(model)


def export_predict(step: TrainingStep, feature_shape: Shape) -> onnx.ModelProto:
    """(parameters and statistics, h) -> logits [N,K]."""

    def predict(*arguments: Tensor) -> Sequence[Tensor]:
        *state, h = arguments
        return (step.predict(state, h),)

    inputs = [
        *(Input(e.name, state_shape(e)) for e in step.predict_entries),
        Input("h", ("N", *feature_shape)),
    ]
    return _checked(lower_to_onnx(trace(predict, inputs, ["logits"]), "predict"))


def _checked(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto
