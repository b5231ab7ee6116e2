"""Stock onnxruntime: the three graphs as they are, for any N and K."""

from __future__ import annotations

from mobiletl.export.parts import Parts
from mobiletl.export.runtimes.artifact import Artifact, NamedFile
from mobiletl.export.stock_graphs import StockGraphs


def build(parts: Parts, graphs: StockGraphs) -> Artifact:
    """features.onnx, train_step.onnx and predict.onnx."""
    return Artifact(
        {
            name: NamedFile(f"{name}.onnx", model.SerializeToString())
            for name, model in graphs.by_name().items()
        }
    )
