"""The manager of passes: what it refuses, what it reports, and every pipeline there is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mobiletl.export.passes.manager import Pass, apply_passes, check_order
from mobiletl.export.passes.pipelines import (
    CANCEL_TRANSPOSES,
    CHANNEL_MAJOR,
    MATRIX_PRODUCTS,
    PIPELINES,
    REMATERIALISE,
    SHRINK_EXPAND,
    run_passes,
)
from mobiletl.export.runtimes import RUNTIMES
from mobiletl.export.tracing.functions import trace_train_step
from mobiletl.export.tracing.trace import Input, Traced, trace
from runtime_tests.support.networks import feature_shape, small_step


def traced() -> Traced:
    return trace(lambda x: (x.exp() + 1,), [Input("x", ("N", 4))], ["y"])


def row(name: str, **more: object) -> Pass:
    return Pass(name, lambda given: given, "it does nothing", **more)  # type: ignore[arg-type]


def test_every_runtime_has_a_pipeline_in_an_allowed_order() -> None:
    assert set(PIPELINES) == {runtime.name for runtime in RUNTIMES}
    for passes in PIPELINES.values():
        check_order(passes)
        assert all(found.legal for found in passes)


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        ([CHANNEL_MAJOR, SHRINK_EXPAND, CANCEL_TRANSPOSES], "shrink-expand has to come before"),
        ([CHANNEL_MAJOR, CANCEL_TRANSPOSES, REMATERIALISE], "rematerialise has to come before"),
        ([SHRINK_EXPAND, CHANNEL_MAJOR], "channel-major needs after it: cancel-transposes"),
        ([CANCEL_TRANSPOSES, CHANNEL_MAJOR], "channel-major needs after it: cancel-transposes"),
        ([SHRINK_EXPAND, SHRINK_EXPAND], "occur twice: shrink-expand"),
    ],
)
def test_an_order_that_is_not_allowed_is_refused(passes: list[Pass], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        apply_passes(passes, traced())


def test_a_pass_that_others_know_need_not_be_there() -> None:
    check_order([row("first", before=("second",)), row("third")])
    check_order([row("first", leaves_to=("second",)), row("second")])


def test_what_changed_is_what_is_reported() -> None:
    step = trace_train_step(small_step("mobiletl", 2), feature_shape(2))
    _, applied = apply_passes(MATRIX_PRODUCTS, step)
    assert [(found.name, found.changed) for found in applied[:3]] == [
        ("shrink-expand", True),
        ("rematerialise", True),
        ("channel-major", True),
    ]
    twice = trace(lambda x: (x.transpose(0, 1).transpose(0, 1) + 1,), [Input("x", ("N", 4))], ["y"])
    _, applied = apply_passes([CANCEL_TRANSPOSES], twice)
    assert applied[0].changed is True
    for idle in (row("nothing"), SHRINK_EXPAND, REMATERIALISE, CANCEL_TRANSPOSES):
        _, (nothing,) = apply_passes([idle], traced())
        assert nothing.changed is False, idle.name


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    def breaks(given: Traced) -> Traced:
        nodes = list(given.graph.graph.nodes)
        nodes[0].append(nodes[-2])  # the last operator, before what it reads
        return given

    with pytest.raises(RuntimeError, match="the pass breaks has broken the graph"):
        apply_passes([Pass("breaks", breaks, "it is not")], traced())


def test_runtimes_differ_in_passes_and_agree_in_numbers() -> None:
    step = small_step("mobiletl", 1)
    shape = feature_shape(1)
    arguments = [entry.value.clone() for entry in step.entries]
    h = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    batch: list[Tensor] = [h, torch.arange(4) % 3, torch.tensor(0.1)]
    results = {
        name: run_passes(trace_train_step(step, shape), name).graph(*arguments, *batch)
        for name in ("onnxruntime", "torchscript")
    }
    for one, other in zip(*results.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
