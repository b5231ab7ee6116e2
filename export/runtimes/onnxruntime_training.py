"""onnxruntime-training 1.19.2: the four files of its official API, and the frozen prefix.

Nothing of that package is needed here. docs/onnxruntime-training.md is for those who use the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnxscript import ir

from mobiletl.core.step import Entry
from mobiletl.export.lowering.onnx.whole_graph import prepend_prefix
from mobiletl.export.lowering.onnx_training.checkpoint import (
    Array,
    Checkpoint,
    Property,
    write_checkpoint,
)
from mobiletl.export.lowering.onnx_training.eval import eval_model
from mobiletl.export.lowering.onnx_training.model import training_model
from mobiletl.export.lowering.onnx_training.optimizer import optimizer_model, optimizer_rule
from mobiletl.export.parts import Parts
from mobiletl.export.runtimes.artifact import Artifact, NamedFile
from mobiletl.export.stock_graphs import StockGraphs
from mobiletl.export.tracing.functions import initial

# The official builder puts a prefix before the names of its files; so do we for the second pair.
WHOLE = "whole_"
TRAINING, EVAL = "training_model", "eval_model"
# What starts the names of our properties in a checkpoint.
OURS = "mobiletl."
SEED = 0


def build(parts: Parts, graphs: StockGraphs) -> Artifact:
    """The files by role; any N, and K only as far as the checkpoint fixes it.

    Raises UnsupportedModel for an optimizer without an official counterpart.
    """
    rule = optimizer_rule(parts.step.optimizer)
    models = {"features": graphs.features, **_models(parts)}
    models["optimizer_model"] = optimizer_model(parts.step.optimizer)
    contents = {role: model.SerializeToString() for role, model in models.items()}
    properties: dict[str, Property] = {
        OURS + "model": parts.request.model,
        OURS + "classes": parts.request.classes,
        # As text: a number would be a float32.
        OURS + "moment_units": " ".join(map(repr, rule.units)),
        OURS + "betas": " ".join(map(repr, rule.betas)),
        **{f"{OURS}{role}": _digest(contents[role]) for role in contents if TRAINING in role},
    }
    files = {role: NamedFile(f"{role}.onnx", content) for role, content in contents.items()}
    files["checkpoint"] = NamedFile("checkpoint", _checkpoint(parts, properties))
    return Artifact(files)


def _models(parts: Parts) -> dict[str, onnx.ModelProto]:
    """The training model and the evaluation model, and both with the prefix where asked for."""
    models = {
        TRAINING: training_model(parts.step, parts.feature_shape),
        EVAL: eval_model(parts.step, parts.feature_shape),
    }
    written = {name: _checked(model) for name, model in models.items()}
    if parts.request.whole_graph:
        for name, model in models.items():
            prepend_prefix(model, parts.transfer, parts.request.resolution)
            written[WHOLE + name] = _checked(model)
    return written


def _checked(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    return proto


def _checkpoint(parts: Parts, properties: Mapping[str, Property]) -> bytes:
    classes, generator = parts.request.classes, np.random.default_rng(SEED)
    entries = parts.step.predict_entries
    values = {e.name: _first_value(e, classes, generator) for e in entries}
    trained = {e.name: values[e.name] for e in entries if e.role == "parameter"}
    frozen = {e.name: values[e.name] for e in entries if e.role == "statistic"}
    rate = parts.method.default_rate(parts.step.optimizer)
    return write_checkpoint(Checkpoint(trained, frozen, rate, properties))


def _first_value(entry: Entry, classes: int, generator: np.random.Generator) -> Array:
    """As a board with that seed starts (docs/bundle.md, "State")."""
    kind, _, deviation = initial(entry).partition(":")
    if kind == "file":
        return entry.value.numpy()
    shape = (classes, *entry.value.shape[1:])
    if kind == "zeros":
        return np.zeros(shape, np.float32)
    return generator.normal(0.0, float(deviation), shape).astype(np.float32)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
