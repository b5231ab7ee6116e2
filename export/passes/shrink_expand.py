"""div(expand(x), c) -> expand(div(x, c)): the backward of a mean, done while it is small.

Autograd spreads the gradient of the global average over the map and then divides. Both orders give
the same bits, because the division is elementwise. Declined when someone else reads the spread
map, or when c is a tensor.
"""

from __future__ import annotations

import torch
from torch import fx

from mobiletl.export.tracing.trace import Traced

aten = torch.ops.aten


def check(node: fx.Node) -> str | None:
    """Why `node` is left alone, or None."""
    if node.target is not aten.div.Scalar:
        return "not a division by a number"
    source = node.args[0]
    if not isinstance(source, fx.Node) or source.target is not aten.expand.default:
        return "does not divide an expanded tensor"
    if len(source.users) > 1:
        return "the expanded tensor has other readers"
    return None


def shrink_expand(traced: Traced) -> Traced:
    """Rewrite every division that `check` accepts."""
    graph = traced.graph.graph
    for node in graph.find_nodes(op="call_function", target=aten.div.Scalar):
        if check(node) is not None:
            continue
        expand, divisor = node.args
        small, sizes = expand.args
        # After the division, where the divisor (maybe a symbol's node) exists already.
        with graph.inserting_before(node):
            divided = graph.call_function(aten.div.Scalar, (small, divisor))
            spread = graph.call_function(aten.expand.default, (divided, sizes))
        divided.meta["val"], spread.meta["val"] = small.meta["val"], node.meta["val"]
        node.replace_all_uses_with(spread)
        graph.erase_node(node)
        graph.erase_node(expand)
    traced.graph.recompile()
    return traced
