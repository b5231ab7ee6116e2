"""Scaled kernels that are computed once per reader."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mobiletl.export.passes.rematerialise import check, rematerialise_kernels
from mobiletl.export.tracing.trace import Input, Traced, trace
from runtime_tests.support.networks import (
    count,
    feature_shape,
    run_traced,
    small_step,
    step_arguments,
    trace_step,
)

MUL = torch.ops.aten.mul.Tensor
Function = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def traced(function: Function) -> Traced:
    """A function of a [N,3] and b [N,3] with two results."""
    return trace(function, [Input("a", ("N", 3)), Input("b", ("N", 3))], ["y", "z"])


def products(graph: Traced) -> list[str | None]:
    return [check(node) for node in graph.graph.graph.nodes if node.target is MUL]


@pytest.mark.parametrize(
    ("method", "blocks", "times"),
    [("mobiletl", 1, 3), ("mobiletl", 2, 5), ("ft-blocks", 1, 0), ("ft-last", None, 0)],
)
def test_fires_on_every_kernel_with_a_scale(method: str, blocks: int | None, times: int) -> None:
    """Two kernels in a block and the head's; exact training has no scale in a kernel."""
    graph = trace_step(small_step(method, blocks), feature_shape(blocks))
    before = count(graph, MUL)
    assert products(graph).count(None) == times
    after = rematerialise_kernels(graph)
    assert count(after, MUL) == before + times
    assert products(after).count(None) == 0


def test_each_reader_gets_a_product_of_its_own() -> None:
    after = rematerialise_kernels(traced(lambda a, b: ((p := a * b) + 1, p + 2)))
    assert products(after) == ["read once", "read once"]


@pytest.mark.parametrize(
    ("function", "reasons"),
    [
        (lambda a, b: (a + b, a - b), []),
        (lambda a, b: (a * b + 1, b), ["read once"]),
        (
            lambda a, b: ((p := (a + b) * b) + 1, p + 2),
            ["an operand is computed during the step"],
        ),
    ],
    ids=["no product", "one reader", "computed operand"],
)
def test_declines(function: Function, reasons: list[str]) -> None:
    graph = traced(function)
    assert products(graph) == reasons
    before = count(graph, MUL)
    after = rematerialise_kernels(graph)
    assert count(after, MUL) == before
    a, b = torch.rand(4, 3), torch.rand(4, 3)
    for found, expected in zip(run_traced(after, [a, b]).values(), function(a, b), strict=True):
        assert torch.equal(found, expected)


def test_anything_else_is_no_product() -> None:
    graph = traced(lambda a, b: (a + b, a - b))
    (node,) = graph.graph.graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor)
    assert check(node) == "not a product"


def test_every_number_of_the_step_stays() -> None:
    """Bit for bit: the same product, twice. One kernel is frozen, and so is its scale."""
    step = small_step("mobiletl", 1, freeze="features.17.conv.0.0.weight")
    shape = feature_shape(1)
    arguments = step_arguments(step, shape)
    graph = trace_step(step, shape)
    before = run_traced(graph, arguments)
    after = run_traced(rematerialise_kernels(graph), arguments)
    assert len(before) == 2 + len(step.entries)
    for name, value in before.items():
        assert torch.equal(after[name], value), name
