"""Pairs of transposes: gone where they undo each other, left where they don't."""

from __future__ import annotations

import torch
from torch import Tensor

from mobiletl.export.passes.cancel_transposes import cancel_transposes, check
from mobiletl.export.tracing.trace import Input, trace
from runtime_tests.support.networks import count, run_traced

aten = torch.ops.aten
X = torch.arange(24.0).view(2, 3, 4)


def transposes(function: object) -> tuple[int, list[str | None], dict[str, Tensor]]:
    """How many are left, why, and what the graph gives for X."""
    graph = cancel_transposes(trace(function, [Input("x", ("N", 3, 4))], ["y"]))  # type: ignore[arg-type]
    nodes = graph.graph.graph.find_nodes(op="call_function", target=aten.transpose.int)
    return count(graph, aten.transpose.int), [check(n) for n in nodes], run_traced(graph, [X])


def test_a_pair_is_gone() -> None:
    left, _, found = transposes(lambda x: ((x + 1).transpose(0, 1).transpose(1, 0) * 2,))
    assert left == 0
    assert torch.equal(found["y"], (X + 1) * 2)


def test_the_first_stays_for_its_other_readers() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        turned = x.transpose(0, 1)
        return (turned.transpose(0, 1) * torch.sum(turned * 2),)

    left, _, found = transposes(function)
    assert left == 1
    assert torch.equal(found["y"], function(X)[0])


def test_other_axes_and_lone_ones_stay() -> None:
    left, reasons, found = transposes(lambda x: (x.transpose(0, 1).transpose(1, 2) + 1,))
    assert left == 2
    assert reasons == ["does not follow a transpose", "swaps other axes"]
    assert torch.equal(found["y"], X.transpose(0, 1).transpose(1, 2) + 1)


TURN = aten.permute.default


def turns(function: object) -> tuple[int, dict[str, Tensor]]:
    """How many permutations are left, and what the graph gives for X."""
    graph = cancel_transposes(trace(function, [Input("x", ("N", 3, 4))], ["y"]))  # type: ignore[arg-type]
    return count(graph, TURN), run_traced(graph, [X])


def test_permutations_that_undo_each_other_are_gone() -> None:
    left, found = turns(lambda x: ((x + 1).permute(2, 0, 1).permute(1, 2, -3) * 2,))
    assert left == 0
    assert torch.equal(found["y"], (X + 1) * 2)


def test_a_transpose_undoes_a_permutation_of_two_axes() -> None:
    def function(x: Tensor) -> tuple[Tensor]:
        return ((x + 1).permute(0, 2, 1).transpose(1, 2) * 2,)

    left, found = turns(function)
    assert left == 0
    assert torch.equal(found["y"], (X + 1) * 2)


def test_a_cycle_turned_twice_stays() -> None:
    """Once more in the same direction is not back."""
    left, found = turns(lambda x: (x.permute(2, 0, 1).permute(2, 0, 1) + 1,))
    assert left == 2
    assert torch.equal(found["y"], X.permute(1, 2, 0) + 1)
