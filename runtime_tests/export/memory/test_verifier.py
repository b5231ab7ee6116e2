"""The verifier finds what a planner can get wrong, and agrees where it is right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobiletl.export.memory import plan as memory_plan
from mobiletl.export.memory.plan import Bytes, GraphPlan, plan_graph
from mobiletl.export.memory.verifier import verify_plan
from mobiletl.export.operators import ONNX_BY_NAME, OnnxOperator, Storage
from mobiletl.export.stock_graphs import lower_predict, lower_train_step
from runtime_tests.support.graphs_by_hand import CASES, copy, model, node
from runtime_tests.support.networks import feature_shape, small_step


def test_too_small_and_too_large_plans_are_caught() -> None:
    graph, per_picture = CASES["alias chain"]
    for wrong in (per_picture - 16, per_picture + 16):
        with pytest.raises(AssertionError, match=f"the plan says {3 * wrong} bytes for batch 3"):
            verify_plan(graph, GraphPlan(0, (Bytes(0, wrong),)), 3, 2)


def test_formula_that_fits_one_batch_only_is_caught() -> None:
    graph, per_picture = CASES["nested lifetimes"]
    plan = GraphPlan(0, (Bytes(fixed=per_picture),))
    verify_plan(graph, plan, 1, 2)
    with pytest.raises(AssertionError, match="batch 2"):
        verify_plan(graph, plan, 2, 2)


def test_alias_that_is_none_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = CASES["touching lifetimes"]
    monkeypatch.setitem(ONNX_BY_NAME, "Transpose", OnnxOperator("Transpose", Storage.ALIASES))
    with pytest.raises(AssertionError, match="hand: the plan says"):
        verify_plan(graph, plan_graph(graph), 2, 2)


def test_operator_that_cannot_overwrite_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [copy("x", "a"), copy("a", "b"), node("ReduceSum", "b", "out", keepdims=0)]
    graph = model(nodes, {"out": []})
    verify_plan(graph, plan_graph(graph), 2, 2)
    monkeypatch.setitem(ONNX_BY_NAME, "Transpose", OnnxOperator("Transpose", Storage.IN_PLACE))
    with pytest.raises(AssertionError, match="hand: the plan says"):
        verify_plan(graph, plan_graph(graph), 2, 2)


def test_memory_freed_too_early_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that thinks a reshape is a copy frees the original before the last reader."""
    graph, _ = CASES["alias chain"]
    monkeypatch.setitem(ONNX_BY_NAME, "Reshape", OnnxOperator("Reshape"))
    monkeypatch.setattr(memory_plan, "tensor_bytes", _without_reshapes)
    with pytest.raises(AssertionError, match="hand: the plan says"):
        verify_plan(graph, plan_graph(graph), 2, 2)


_SIZES = memory_plan.tensor_bytes


def _without_reshapes(graph: onnx.ModelProto) -> dict[str, Bytes]:
    return {n: Bytes() if n in ("r", "s") else size for n, size in _SIZES(graph).items()}


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Random graphs over maps of one size: copies, in-place operators, reshapes, sums."""
    names = ["x"]
    nodes = []
    for index in range(draw(st.integers(2, 9))):
        output = f"t{index}"
        kind = draw(st.sampled_from(["copy", "Relu", "Add", "Reshape"]))
        source = draw(st.sampled_from(names[-3:]))
        if kind == "copy":
            nodes.append(copy(source, output))
        elif kind == "Add":
            nodes.append(node("Add", f"{source} {draw(st.sampled_from(names[-3:]))}", output))
        elif kind == "Reshape":
            nodes.append(node("Reshape", f"{source} back", output))
        else:
            nodes.append(node("Relu", source, output))
        names.append(output)
    nodes.append(node("Concat", f"{names[-1]} {draw(st.sampled_from(names))}", "out", axis=1))
    return model(nodes, {"out": ["N", 8]}, back=np.array([-1, 4]))


@given(graphs())
@settings(deadline=None, max_examples=60)
def test_two_programs_agree_on_random_graphs(graph: onnx.ModelProto) -> None:
    verify_plan(graph, plan_graph(graph), 3, 2)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mobiletl", "ft-blocks"])
def test_two_programs_agree_on_real_graphs(method: str) -> None:
    step, shape = small_step(method, 1), feature_shape(1)
    for graph in (lower_train_step(step, shape), lower_predict(step, shape)):
        plan = plan_graph(graph)
        for batch, classes in ((1, 2), (2, 9), (17, 4)):
            verify_plan(graph, plan, batch, classes)
