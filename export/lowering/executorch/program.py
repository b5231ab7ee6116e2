"""From traced graphs to one ExecuTorch program, N and K static.

`torch.export`'s own joint graph would drop the masks' backward pass and bring the exact one back;
this starts from the trace, which has it (export/tracing/trace.py), and hands torch.export a flat
graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.step import Entry
from mobiletl.export.lowering.executorch.library import executorch_program, exported, quiet
from mobiletl.export.lowering.executorch.rules import KERNELS, RULES
from mobiletl.export.lowering.origin import origin
from mobiletl.export.memory.in_place_order import Store, in_place_order
from mobiletl.export.tracing.functions import NEXT
from mobiletl.export.tracing.trace import Traced, retrace


@dataclass(frozen=True)
class Program:
    """A .pte file and the planned arena of each of its methods, in bytes."""

    content: bytes
    arena_bytes: Mapping[str, int]


def lower_to_executorch(
    features: Traced, train_step: Traced, predict: Traced, entries: Sequence[Entry]
) -> Program:
    """One program with three methods; raises UnsupportedModel for an operator without a rule.

    All sizes are integers. `entries` are the first inputs of `train_step`, which the step updates.
    """
    graphs = {
        "features": copy_passed_on(features),
        "train_step": translate(update_in_place(train_step, entries)),
        "predict": translate(predict),
    }
    with quiet():
        # Imports the package, which is not there on every host.
        from mobiletl.export.lowering.executorch.memory import InPlacePlanning
    program = executorch_program(
        {name: exported(traced.graph, _examples(traced)) for name, traced in graphs.items()},
        # A chain of constants, where nothing has to be kept: XNNPACK may take it whole.
        partitioned={"features"},
        plans={name: InPlacePlanning(_updated(traced)) for name, traced in graphs.items()},
    )
    plans = program.executorch_program.execution_plan
    return Program(program.buffer, {p.name: sum(p.non_const_buffer_sizes) for p in plans})


def copy_passed_on(traced: Traced) -> Traced:
    """Outputs that are inputs as they came become copies: the package would give them no memory.

    That is all there is to features whose prefix is empty.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.graph.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    (output,) = graph.find_nodes(op="output")
    with graph.inserting_before(output):
        output.args = (
            tuple(
                graph.call_function(torch.ops.aten.clone.default, (value,))
                if value.op == "placeholder"
                else value
                for value in output.args[0]
            ),
        )
    return traced.with_graph(fx.GraphModule(traced.graph, graph))


def update_in_place(traced: Traced, entries: Sequence[Entry]) -> Traced:
    """The nodes in the order of `in_place_order`, so that no gradient outlives its update."""
    placeholders = traced.graph.graph.find_nodes(op="placeholder")
    (output,) = traced.graph.graph.find_nodes(op="output")
    results = dict(zip(traced.outputs, output.args[0], strict=True))
    named = {i.name: node for i, node in zip(traced.inputs, placeholders, strict=True)}
    new_values = {named[e.name]: results[e.name + NEXT] for e in entries}
    for_updates = [named[e.name] for e in entries if e.role == "slot"]
    order = in_place_order(traced.graph.graph, new_values, [*for_updates, named["lr"]])
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in (*placeholders, *(n for n in order if not isinstance(n, Store)), output):
        copies[node] = graph.node_copy(node, copies.__getitem__)
    return traced.with_graph(fx.GraphModule(traced.graph, graph))


def translate(traced: Traced) -> Traced:
    """The graph with `RULES` applied; raises UnsupportedModel for an operator that has neither a
    rule nor a kernel.
    """

    def run(*arguments: Tensor) -> Any:
        return _Translation(traced).run(*arguments)

    return traced.with_graph(retrace(run, traced.mode, traced.arguments))


class _Translation(fx.Interpreter):
    def __init__(self, traced: Traced) -> None:
        super().__init__(traced.graph)
        self._traced = traced

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_function":
            return super().run_node(n)
        rule = RULES.get(n.target)
        if rule is not None:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            return rule(n, *args, **kwargs)
        if n.target not in KERNELS:
            raise UnsupportedModel(
                f"the operator {n.target} of {origin(n, self._traced)} has no ExecuTorch "
                "translation; leave executorch out of --runtimes, or add a rule to "
                "export/lowering/executorch/rules.py"
            )
        return super().run_node(n)


def _examples(traced: Traced) -> tuple[Tensor, ...]:
    return tuple(torch.zeros([int(s) for s in i.shape], dtype=i.dtype) for i in traced.inputs)


def _updated(traced: Traced) -> list[int | None]:
    """For each input the position of the output that is its new value."""
    position = {name: index for index, name in enumerate(traced.outputs)}
    return [position.get(declared.name + NEXT) for declared in traced.inputs]
