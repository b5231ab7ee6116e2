"""transpose(transpose(x)) -> x where the second one undoes the first: a map turned and back.

The layouts of `channel_major/` leave such pairs where two operators that want plain maps follow
each other, or where the step's input is one of them; layers on bytes leave them between blocks. A
runtime would copy the map twice. Both nodes only name axes, so any graph allows it. Declined when
the axes differ.
"""

from __future__ import annotations

import torch
from torch import fx

from mobiletl.export.tracing.trace import Traced

aten = torch.ops.aten
TURNS = (aten.transpose.int, aten.permute.default)


def check(node: fx.Node) -> str | None:
    """Why `node`, the second of a pair, is left alone, or None."""
    if node.target not in TURNS:
        return "not a transpose"
    first = node.args[0]
    if not isinstance(first, fx.Node) or first.target not in TURNS:
        return "does not follow a transpose"
    before, after = _order(first), _order(node)
    if [before[axis] for axis in after] != list(range(len(after))):
        return "swaps other axes"
    return None


def _order(node: fx.Node) -> list[int]:
    """Which axis of its input each axis of the result is."""
    rank = node.meta["val"].dim()
    if node.target is aten.permute.default:
        axes = node.args[1]
        assert isinstance(axes, (list, tuple))
        return [int(axis) % rank for axis in axes]  # type: ignore[arg-type]  # plain numbers
    one, other = (int(axis) % rank for axis in node.args[1:3])  # type: ignore[arg-type]
    order = list(range(rank))
    order[one], order[other] = order[other], order[one]
    return order


def cancel_transposes(traced: Traced) -> Traced:
    """Give the readers of every second transpose that `check` accepts what the first one reads."""
    graph = traced.graph.graph
    for node in list(graph.nodes):
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
