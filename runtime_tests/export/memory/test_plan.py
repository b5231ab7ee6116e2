"""The memory plan of graphs small enough to add up by hand, and the verifier's view of them.

Letters: N pictures, K classes. x is f32 [N,4], 16 N bytes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.memory.plan import Bytes, plan_graph
from mobiletl.export.memory.verifier import verify_plan
from runtime_tests.support.graphs_by_hand import CASES, SQUARE, Shape, X, copy, model, node


@pytest.mark.parametrize("name", CASES)
def test_peak_is_the_sum_made_by_hand(name: str) -> None:
    graph, per_picture = CASES[name]
    plan = plan_graph(graph)
    assert [plan.peak(batch, 2) for batch in (1, 3, 50)] == [per_picture * n for n in (1, 3, 50)]


@pytest.mark.parametrize("name", CASES)
def test_verifier_agrees(name: str) -> None:
    graph, _ = CASES[name]
    plan = plan_graph(graph)
    for batch in (1, 3):
        verify_plan(graph, plan, batch, 2)


def test_output_bound_to_its_entry_is_not_counted() -> None:
    nodes = [copy("x", "g"), node("Sub", "w g", "w.next"), copy("g", "out")]
    graph = model(nodes, {"w.next": ["N", 4], **SQUARE}, {"w": ["N", 4], **X})
    assert plan_graph(graph).peak(1, 2) == 32
    verify_plan(graph, plan_graph(graph), 3, 2)


def test_formula_in_pictures_and_classes() -> None:
    """logits and their log-softmax, 4 N K bytes each; the constant is no activation."""
    nodes = [node("MatMul", "x w", "logits"), node("LogSoftmax", "logits", "out", axis=1)]
    graph = model(nodes, {"out": ["N", "K"]}, {**X, "w": [4, "K"]}, bias=np.zeros(5, np.float32))
    plan = plan_graph(graph)
    assert [moment.terms() for moment in plan.moments] == [(0, 0, 0, 8)]
    assert plan.peak(3, 5) == 120
    assert plan.weights == 20
    verify_plan(graph, plan, 3, 5)


def test_every_term_of_the_formula() -> None:
    shapes: dict[str, Shape] = {
        "fixed": [3],
        "pictures": ["N", 2],
        "classes": ["K"],
        "both": ["N", "K"],
    }
    names = list(shapes)
    nodes = [node("Relu", name, f"c.{name}") for name in names]
    graph = model(nodes, {f"c.{name}": shapes[name] for name in names}, shapes)
    (moment,) = plan_graph(graph).moments
    assert moment == Bytes(fixed=12, per_picture=8, per_class=4, per_both=4)


def test_moments_are_those_that_can_be_the_peak() -> None:
    """Few pictures: the large constant size. Many: the batch. What is smaller than either goes."""
    nodes = [
        *(node("Relu", "big", "b"), node("ReduceSum", "b", "s", keepdims=0)),
        *(copy("x", "a"), copy("a", "c"), node("Add", "c s", "out")),
    ]
    graph = model(nodes, SQUARE, {"big": [100], **X})
    plan = plan_graph(graph)
    assert {moment.terms() for moment in plan.moments} == {(404, 0, 0, 0), (4, 32, 0, 0)}
    assert (plan.peak(1, 2), plan.peak(100, 2)) == (404, 3204)


def test_unknown_operator_is_an_error_not_zero_bytes() -> None:
    graph = model([node("Tanh", "x", "out")], SQUARE)
    with pytest.raises(UnsupportedModel, match=r"operator Tanh \(node out\).*give it a row"):
        plan_graph(graph)


def test_size_that_is_no_formula_is_an_error() -> None:
    nodes = [node("Transpose", "x", "t", perm=[1, 0]), node("MatMul", "x t", "out")]
    graph = model(nodes, {"out": ["N", "N"]})
    with pytest.raises(UnsupportedModel, match="size of tensor out is no formula in N and K"):
        plan_graph(graph)


def test_size_that_depends_on_values_is_an_error() -> None:
    nodes = [node("NonZero", "x", "places"), node("Cast", "places", "out", to=TensorProto.FLOAT)]
    graph = model(nodes, {"out": [2, "M"]})
    graph.graph.output[0].type.tensor_type.shape.dim[1].ClearField("dim_param")
    with pytest.raises(UnsupportedModel, match="shape of tensor places is not known"):
        plan_graph(graph)


TERMS = st.builds(Bytes, *[st.integers(0, 50)] * 4)


@given(TERMS, TERMS, st.integers(1, 9), st.integers(2, 9))
def test_formulas_add_up_and_cover(a: Bytes, b: Bytes, batch: int, classes: int) -> None:
    assert a.plus(b).at(batch, classes) == a.at(batch, classes) + b.at(batch, classes)
    if a.covers(b):
        assert a.at(batch, classes) >= b.at(batch, classes)
