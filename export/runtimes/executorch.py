"""ExecuTorch: one program with three methods, for one batch size and one number of classes.

`features` and `predict` take one picture, `train_step` takes `--batch` of them. The files of the
manifest are one: every role names the same program.
"""

from __future__ import annotations

from mobiletl.export.lowering.executorch.program import lower_to_executorch
from mobiletl.export.parts import Parts
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.runtimes.artifact import Artifact, NamedFile
from mobiletl.export.stock_graphs import StockGraphs
from mobiletl.export.tracing.functions import trace_features, trace_predict, trace_train_step

NAME = "executorch"
FILE = "mobiletl.pte"
ONE_PICTURE = 1


def build(parts: Parts, _graphs: StockGraphs) -> Artifact:
    """`mobiletl.pte`, with the planned arena of each method."""
    batch, classes = parts.request.batch, parts.request.classes
    step, shape = parts.step, parts.feature_shape
    program = lower_to_executorch(
        trace_features(parts.transfer, parts.request.resolution, ONE_PICTURE),
        run_passes(trace_train_step(step, shape, batch, classes), NAME),
        run_passes(trace_predict(step, shape, ONE_PICTURE, classes), NAME),
        step.entries,
    )
    return Artifact(
        files={"program": NamedFile(FILE, program.content)},
        batch=batch,
        classes=classes,
        # One arena, whatever runs in it: N and K are fixed.
        memory={name: [(size, 0, 0, 0)] for name, size in program.arena_bytes.items()},
    )
