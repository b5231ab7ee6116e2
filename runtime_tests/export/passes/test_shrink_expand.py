"""Dividing a gradient before it is spread over a map."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mobiletl.export.passes.shrink_expand import check, shrink_expand
from mobiletl.export.tracing.trace import Input, Traced, trace
from runtime_tests.support.networks import (
    count,
    feature_shape,
    run_eager,
    run_traced,
    small_step,
    step_arguments,
    trace_step,
)

aten = torch.ops.aten


def traced(function: Callable[[Tensor], tuple[Tensor, ...]], outputs: int = 1) -> Traced:
    """A function of x [N,3]."""
    names = [f"y{index}" for index in range(outputs)]
    return trace(function, [Input("x", ("N", 3))], names)


def reasons(graph: Traced) -> list[str | None]:
    """What `check` says of each division."""
    kinds = (aten.div.Scalar, aten.div.Tensor)
    return [check(node) for node in graph.graph.graph.nodes if node.target in kinds]


@pytest.mark.parametrize(
    ("method", "blocks", "times"), [("mobiletl", 1, 2), ("ft-blocks", 1, 2), ("ft-last", None, 1)]
)
def test_fires_on_the_average_and_on_the_mean_loss(
    method: str, blocks: int | None, times: int
) -> None:
    """A classifier alone needs no gradient of its input, so only the loss is left."""
    graph = trace_step(small_step(method, blocks), feature_shape(blocks))
    assert reasons(graph).count(None) == times
    expansions = count(graph, aten.expand.default)
    after = shrink_expand(graph)
    assert reasons(after) == ["does not divide an expanded tensor"] * times
    assert count(after, aten.expand.default) == expansions


def test_division_comes_first() -> None:
    graph = shrink_expand(traced(lambda x: (aten.div.Scalar(x[:1].expand(4, 3), 2.0),)))
    order = [n.target for n in graph.graph.graph.nodes if n.op == "call_function"]
    assert order.index(aten.div.Scalar) < order.index(aten.expand.default)


@pytest.mark.parametrize(
    ("function", "outputs", "reason"),
    [
        (lambda x: (aten.div.Scalar(x, 2.0),), 1, "does not divide an expanded tensor"),
        (
            lambda x: (aten.div.Scalar((s := x[:1].expand(4, 3)), 2.0), s + 1),
            2,
            "the expanded tensor has other readers",
        ),
        (lambda x: (x[:1].expand(4, 3) / x.sum(),), 1, "not a division by a number"),
    ],
    ids=["no expansion", "other readers", "divisor is a tensor"],
)
def test_declines(
    function: Callable[[Tensor], tuple[Tensor, ...]], outputs: int, reason: str
) -> None:
    graph = traced(function, outputs)
    assert reasons(graph) == [reason]
    nodes = [node.target for node in graph.graph.graph.nodes]
    after = shrink_expand(graph)
    assert [node.target for node in after.graph.graph.nodes] == nodes
    x = torch.rand(6, 3)
    for found, expected in zip(run_traced(after, [x]).values(), function(x), strict=True):
        assert torch.equal(found, expected)


def test_every_number_of_the_step_stays() -> None:
    """Bit for bit: the division is elementwise. One kernel is frozen."""
    step = small_step("ft-blocks", 1, freeze="features.17.conv.0.0.weight")
    shape = feature_shape(1)
    arguments = step_arguments(step, shape)
    graph = trace_step(step, shape)
    before, after = run_traced(graph, arguments), run_traced(shrink_expand(graph), arguments)
    assert before.keys() == run_eager(step, arguments).keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
