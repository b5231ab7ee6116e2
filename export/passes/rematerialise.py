"""Recompute a scaled kernel where it is read, instead of keeping it from forward to backward.

A trained convolution whose frozen norm scale is multiplied into the kernel reads s*W twice: in the
forward pass and for the gradient of its input. One multiplication over a kernel is cheap next to
the convolution; keeping the product alive would cost as much memory as the masks save. Declined
for products with a single reader, and for those that involve more than graph inputs and constants.
"""

from __future__ import annotations

import torch
from torch import fx

from mobiletl.export.operators import VIEWS
from mobiletl.export.tracing.trace import Traced

aten = torch.ops.aten


def check(node: fx.Node) -> str | None:
    """Why `node` is left alone, or None."""
    if node.target is not aten.mul.Tensor:
        return "not a product"
    if len(node.users) < 2:
        return "read once"
    if not all(isinstance(a, fx.Node) and _is_resident(a) for a in node.args):
        return "an operand is computed during the step"
    return None


def rematerialise_kernels(traced: Traced) -> Traced:
    """Give every reader of a product that `check` accepts a product of its own."""
    graph = traced.graph.graph
    for node in graph.find_nodes(op="call_function", target=aten.mul.Tensor):
        if check(node) is not None:
            continue
        for reader in list(node.users)[1:]:
            with graph.inserting_before(reader):
                again = graph.node_copy(node)  # with its shape
            reader.replace_input_with(node, again)
    traced.graph.recompile()
    return traced


def _is_resident(node: fx.Node) -> bool:
    """Whether the value is in memory anyway: a graph input, a constant, or a view of one."""
    if node.op in ("placeholder", "get_attr"):
        return True
    source = node.args[0] if node.args else None
    return node.target in VIEWS and isinstance(source, fx.Node) and _is_resident(source)
