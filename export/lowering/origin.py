"""Which module of the network a node of a traced graph comes from."""

from __future__ import annotations

from torch import fx

from mobiletl.export.tracing.trace import Traced


def origin(node: fx.Node, traced: Traced) -> str:
    """The module whose tensor is nearest above `node` in the graph, for messages.

    A trace keeps no module names, but the inputs that hold a module's tensors carry them.
    """
    placeholders = traced.graph.graph.find_nodes(op="placeholder")
    names = {p: i.name for p, i in zip(placeholders, traced.inputs, strict=True)}
    level, seen = [node], {node}
    while level:
        for found in level:
            module, _, leaf = names.get(found, "").rpartition(".")
            if module and leaf:
                return module
        level = [
            source for found in level for source in found.all_input_nodes if source not in seen
        ]
        seen.update(level)
    return "the frozen layers" if "images" in names.values() else f"node {node.name}"
