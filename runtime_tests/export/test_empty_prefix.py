"""Features of a network that is trained whole: the pictures themselves, in every runtime."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxscript import ir
from torch import Tensor, nn

from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.lowering.torchscript.program import lower_to_torchscript
from mobiletl.export.memory.plan import plan_graph
from mobiletl.export.memory.verifier import verify_plan
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.tracing.functions import trace_predict, trace_train_step
from mobiletl.export.tracing.trace import Input, Traced, trace
from runtime_tests.export.passes.test_steps import CASES
from runtime_tests.support.layer_steps import CLASSES, LayerStep

PICTURES = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)


def features(batch: int | str) -> Traced:
    prefix = nn.Sequential()
    shape = (batch, *PICTURES.shape[1:])
    return trace(lambda images: (prefix(images),), [Input("images", shape)], ["h"])


def test_onnx_passes_them_on_in_one_node() -> None:
    model = ir.to_proto(lower_to_onnx(features("N"), "features"))
    onnx.checker.check_model(model, full_check=True)
    verify_plan(model, plan_graph(model), batch=3, classes=5)
    assert [node.op_type for node in model.graph.node] == ["Identity"]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"images": PICTURES.numpy()})
    assert np.array_equal(found, PICTURES.numpy())


def test_torchscript_returns_them() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load", DeprecationWarning)
        program = torch.jit.load(io.BytesIO(lower_to_torchscript(features("N"))))
    assert torch.equal(program(PICTURES), PICTURES)


@pytest.mark.slow
def test_executorch_copies_them_and_trains_what_reads_them() -> None:
    """The convolution that they go into is the network's first: stride 2, three channels."""
    pytest.importorskip("executorch", reason="needs the executorch package")
    lowering = pytest.importorskip("mobiletl.export.lowering.executorch.program")
    from executorch.extension.pybindings import _C

    case, batch = CASES["stem on pictures"], 4
    around = LayerStep.around(case.layer, case.channels, case.shape, case.below)
    step = around.step
    program = lowering.lower_to_executorch(
        features(2),
        run_passes(trace_train_step(step, case.shape, batch, CLASSES)),
        run_passes(trace_predict(step, case.shape, 1, CLASSES)),
        step.entries,
    )
    methods = _C._load_program_from_buffer(program.content)
    assert torch.equal(methods.load_method("features")([PICTURES])[0], PICTURES)
    state: list[Tensor] = around.arguments(batch)[:-3]
    loss, _ = methods.load_method("train_step")([*state, *around.arguments(batch)[-3:]])
    results = dict(zip((e.name for e in step.entries), (s.numpy() for s in state), strict=True))
    around.check_results({"loss": loss.numpy(), **results}, around.gradients(batch))
