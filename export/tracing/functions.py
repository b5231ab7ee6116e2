"""The three functions of a bundle as traced graphs, which every runtime lowers in its own way.

Letters: N pictures in a batch, K classes, R the resolution, C x h x w the feature map, D the width
of the embedding. A size is an integer, or the string "N" or "K" where a runtime takes any.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mobiletl.core.step import Entry, TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.export.tracing.trace import Input, Traced, trace

Size = int | str
Shape = tuple[int, int, int]

# The new value of a state entry is the output called <entry>.next (docs/bundle.md).
NEXT = ".next"
# A board draws the weights of its classifier with this deviation (docs/bundle.md, "State").
HEAD_STD = 0.01


def state_shape(entry: Entry, classes: Size = "K") -> tuple[Size, ...]:
    """The shape of a state entry for so many classes."""
    shape = tuple(int(size) for size in entry.value.shape)
    return (classes, *shape[1:]) if entry.per_class else shape


def initial(entry: Entry) -> str:
    """Where the first value of a state entry comes from: `file`, `zeros` or `normal:STD`."""
    if entry.role == "slot":
        return "zeros"
    if not entry.per_class:
        return "file"
    return f"normal:{HEAD_STD}" if entry.value.dim() > 1 else "zeros"


def trace_features(transfer: Transfer, resolution: int, batch: Size = "N") -> Traced:
    """images [N,3,R,R] -> h [N,C,h,w]."""

    def features(images: Tensor) -> Sequence[Tensor]:
        return (transfer.prefix(images),)

    return trace(features, [Input("images", (batch, 3, resolution, resolution))], ["h"])


def trace_train_step(
    step: TrainingStep, feature_shape: Shape, batch: Size = "N", classes: Size = "K"
) -> Traced:
    """(state, h, labels, lr) -> (loss, correct, new state), before any pass."""

    def train(*arguments: Tensor) -> Sequence[Tensor]:
        *state, h, labels, lr = arguments
        return step.train(state, h, labels, lr)

    inputs = [
        *(Input(e.name, state_shape(e, classes)) for e in step.entries),
        Input("h", (batch, *feature_shape)),
        Input("labels", (batch,), torch.int64),
        Input("lr", ()),
    ]
    outputs = ["loss", "correct", *(e.name + NEXT for e in step.entries)]
    return trace(train, inputs, outputs)


def trace_predict(
    step: TrainingStep, feature_shape: Shape, batch: Size = "N", classes: Size = "K"
) -> Traced:
    """(parameters and statistics, h) -> (logits [N,K], embedding [N,D])."""

    def predict(*arguments: Tensor) -> Sequence[Tensor]:
        *state, h = arguments
        return step.predict(state, h)

    inputs = [
        *(Input(e.name, state_shape(e, classes)) for e in step.predict_entries),
        Input("h", (batch, *feature_shape)),
    ]
    return trace(predict, inputs, ["logits", "embedding"])
