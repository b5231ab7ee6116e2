"""The three functions as ONNX models: traced, rewritten, ordered, checked.

Stock onnxruntime runs them, and the memory plan is computed from them, whatever a bundle serves.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnxscript import ir

from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.memory.execution_order import check_in_place, reorder
from mobiletl.export.parts import Parts
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.tracing.functions import (
    Shape,
    Size,
    trace_features,
    trace_predict,
    trace_train_step,
)


@dataclass(frozen=True)
class StockGraphs:
    """One model per function; N and K are dynamic."""

    features: onnx.ModelProto
    train_step: onnx.ModelProto
    predict: onnx.ModelProto

    def by_name(self) -> dict[str, onnx.ModelProto]:
        """Function to model, in the order a picture meets them."""
        return {
            "features": self.features,
            "train_step": self.train_step,
            "predict": self.predict,
        }


def stock_graphs(parts: Parts) -> StockGraphs:
    """Lower the three functions of `parts`; raises UnsupportedModel."""
    return StockGraphs(
        lower_features(parts.transfer, parts.request.resolution),
        lower_train_step(parts.training, parts.feature_shape),
        lower_predict(parts.step, parts.feature_shape),
    )


def lower_features(transfer: Transfer, resolution: int) -> onnx.ModelProto:
    """images [N,3,R,R] -> h [N,C,h,w]."""
    return _checked(lower_to_onnx(trace_features(transfer, resolution), "features"))


def lower_train_step(
    step: TrainingStep, feature_shape: Shape, batch: Size = "N", classes: Size = "K"
) -> onnx.ModelProto:
    """(state, h, labels, lr) -> (loss, correct, new state), in the order that saves memory."""
    traced = trace_train_step(step, feature_shape, batch, classes)
    model = lower_to_onnx(run_passes(traced), "train_step")
    reorder(model)
    check_in_place(model)
    return _checked(model)


def lower_predict(step: TrainingStep, feature_shape: Shape) -> onnx.ModelProto:
    """(parameters and statistics, h) -> (logits [N,K], embedding [N,D]); what is frozen in the top
    keeps its names.
    """
    frozen = dict(step.top.named_parameters()) | dict(step.top.named_buffers())
    return _checked(lower_to_onnx(trace_predict(step, feature_shape), "predict", frozen))


def _checked(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto
