"""transpose(transpose(x, 0, 1), 0, 1) -> x: a map turned to channel-major order and back.

The layouts of `channel_major/` leave such pairs where two operators that want plain maps follow
each other, or where the step's input is one of them. A runtime would copy the map twice. Both
nodes only name axes, so any graph allows it. Declined when the axes differ.
"""

from __future__ import annotations

import torch
from torch import fx

from mobiletl.export.tracing.trace import Traced

aten = torch.ops.aten


def check(node: fx.Node) -> str | None:
    """Why `node`, the second of a pair, is left alone, or None."""
    if node.target is not aten.transpose.int:
        return "not a transpose"
    first, *axes = node.args
    if not isinstance(first, fx.Node) or first.target is not aten.transpose.int:
        return "does not follow a transpose"
    if set(axes) != set(first.args[1:]):
        return "swaps other axes"
    return None


def cancel_transposes(traced: Traced) -> Traced:
    """Give the readers of every second transpose that `check` accepts what the first one reads."""
    graph = traced.graph.graph
    for node in graph.find_nodes(op="call_function", target=aten.transpose.int):
        if check(node) is None:
            first = node.args[0]
            assert isinstance(first, fx.Node)
            source = first.args[0]
            assert isinstance(source, fx.Node)
            node.replace_all_uses_with(source)
            graph.erase_node(node)
    graph.eliminate_dead_code()
    traced.graph.recompile()
    return traced  # no node is new, so that all know their shapes already
