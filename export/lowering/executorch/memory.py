"""The last change before an ExecuTorch program is written: the new state goes over the old one.

The arena then holds activations only. State entries are inputs whose memory is the caller's, and
`<entry>.next` is no output: the operator that computes it writes into the input. That is legal
when it is elementwise in equal shapes and nobody reads the old value later; for any other entry
the new value is copied over the old one as soon as both its writer and the last reader are through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from executorch.exir import memory
from executorch.exir.passes import MemoryPlanningPass
from torch import fx

from mobiletl.export.memory.in_place_order import readers_of_memory
from mobiletl.export.operators import WRITES_OVER

aten = torch.ops.aten


class InPlacePlanning(MemoryPlanningPass):  # type: ignore[misc]  # the package ships no types
    """Plans one method. `updated` has, per input, the output that is its new value, or None."""

    def __init__(self, updated: Sequence[int | None]) -> None:
        # Inputs and the state are the caller's memory, so a batch or a state is never copied in.
        super().__init__(alloc_graph_input=False)
        self._updated = tuple(updated)

    def run(self, graph_module: fx.GraphModule, graph_signature: Any = None) -> Any:
        """Rewrite the method's graph, then plan its memory."""
        graph = graph_module.graph
        inputs = graph.find_nodes(op="placeholder")
        # Constants come first among the placeholders.
        inputs = inputs[len(inputs) - len(self._updated) :]
        (output,) = graph.find_nodes(op="output")
        results = list(output.args[0])
        for entry, index in zip(inputs, self._updated, strict=True):
            if index is not None and results[index] is not entry:
                _write_over(graph, entry, results[index])
        kept = [n for i, n in enumerate(results) if i not in set(self._updated)]
        output.args = (tuple(kept),)
        output.meta["val"] = tuple(node.meta.get("val") for node in kept)
        output.meta["spec"] = tuple(node.meta["spec"] for node in kept)
        graph.eliminate_dead_code(is_impure_node=_must_stay)
        graph_module.recompile()
        return super().run(graph_module, graph_signature)


def _must_stay(node: fx.Node) -> bool:
    """Nodes that are there for what they write."""
    return node.op in ("placeholder", "output") or node.meta.get("writes_state", False)


def _write_over(graph: fx.Graph, entry: fx.Node, value: fx.Node) -> None:
    position = {node: index for index, node in enumerate(graph.nodes)}
    last_read = max(
        (position[reader] for reader in readers_of_memory(entry, (memory.view,))), default=-1
    )
    same_shape = value.meta["spec"].shape == entry.meta["spec"].shape
    if value.target in WRITES_OVER and same_shape and last_read <= position[value]:
        value.kwargs = {**value.kwargs, "out": entry}
        value.meta["spec"] = entry.meta["spec"]
        value.meta["writes_state"] = True
        return
    nodes = list(graph.nodes)
    with graph.inserting_after(nodes[max(last_read, position[value])]):
        copy = graph.call_function(aten.copy_.default, (entry, value))
    copy.meta.update(entry.meta)
    copy.meta["writes_state"] = True
