"""`eval_model.onnx` of onnxruntime-training: the top in inference mode, with its loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from onnxscript import ir
from torch import Tensor

from mobiletl.core.step import TrainingStep, cross_entropy
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.tracing.functions import Shape, state_shape
from mobiletl.export.tracing.trace import Input, trace

# The official samples' name; `export_model_for_inferencing` is given it, and leaves the rest out.
LOGITS = "output"
# As in docs/bundle.md: our own session reads it, the official samples know nothing of it.
EMBEDDING = "embedding"


def eval_model(step: TrainingStep, feature_shape: Shape) -> ir.Model:
    """(h [N,C,h,w], labels [N]) -> (loss, output [N,K], embedding [N,D]), any N and K."""

    def evaluate(*arguments: Tensor) -> Sequence[Tensor]:
        h, labels, *state = arguments
        logits, embedding = step.predict(state, h)
        return cross_entropy(logits, labels), logits, embedding

    inputs = [
        Input("h", ("N", *feature_shape)),
        Input("labels", ("N",), torch.int64),
        *(Input(e.name, state_shape(e)) for e in step.predict_entries),
    ]
    return lower_to_onnx(trace(evaluate, inputs, ["loss", LOGITS, EMBEDDING]), "eval_model")
