"""Blocks written in any style, brought into the form that methods recognise.

Methods look for rows: an `nn.Sequential` of convolution and batch norm, with or without an
activation behind them. Many networks hold the three as attributes, or call the activation as a
function, or put two rows into one `nn.Sequential`. `as_rows` finds them by running the block
symbolically, so that its `forward` counts, not how its layers are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.positive_slope import POSITIVE

# What a block may call in place of a layer.
_FUNCTIONS: Mapping[Callable[..., Any] | str, type[nn.Module]] = {
    functional.relu: nn.ReLU,
    torch.relu: nn.ReLU,
    "relu": nn.ReLU,
    functional.relu6: nn.ReLU6,
    functional.hardswish: nn.Hardswish,
}


def as_rows(block: nn.Module) -> fx.GraphModule:
    """A module that computes what `block` does, every row of it an `nn.Sequential` of its own.

    A row takes the place of its convolution, so that keys become `<conv>.0.weight` for the
    convolution and `<conv>.1.weight` for the norm. It shares its tensors with `block`. Raises
    UnsupportedModel for a block that can't be run symbolically: its path depends on values, say.
    """
    try:
        traced = fx.symbolic_trace(block)
    # A person's own forward may raise anything.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UnsupportedModel(
            f"{type(block).__name__} can't be taken apart ({reason}); write it as nn.Sequential "
            "rows of convolution, norm and activation (docs/own-network.md)"
        ) from error
    for conv, norm, activation in list(_rows(traced)):
        _join(traced, conv, norm, activation)
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def _rows(traced: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node, fx.Node | None]]:
    """Convolution, norm and the activation behind it, where each is read by the next alone."""
    for conv in traced.graph.nodes:
        if _layer(traced, conv) is not nn.Conv2d:
            continue
        norm = _only_reader(conv)
        if norm is None or _layer(traced, norm) is not nn.BatchNorm2d:
            continue
        behind = _only_reader(norm)
        yield conv, norm, behind if behind and _activation(traced, behind) else None


def _join(traced: fx.GraphModule, conv: fx.Node, norm: fx.Node, activation: fx.Node | None) -> None:
    """Put one call of an `nn.Sequential`, under the convolution's name, in place of the nodes."""
    place = str(conv.target)
    layers = [traced.get_submodule(place), traced.get_submodule(str(norm.target))]
    if activation is not None:
        kind = _activation(traced, activation)
        assert kind is not None
        layers.append(kind())
    # By hand: delete_all_unused_submodules passes over what is found elsewhere, too.
    traced.delete_submodule(str(norm.target))
    traced.add_submodule(place, nn.Sequential(*layers))
    for node in (activation, norm):
        if node is not None:
            node.replace_all_uses_with(conv if node is norm else norm)
            traced.graph.erase_node(node)


def _layer(traced: fx.GraphModule, node: fx.Node) -> type[nn.Module] | None:
    """The type of the layer that a node calls, and that nothing else calls."""
    if node.op != "call_module":
        return None
    calls = [n for n in traced.graph.nodes if n.op == "call_module" and n.target == node.target]
    return type(traced.get_submodule(str(node.target))) if len(calls) == 1 else None


def _activation(traced: fx.GraphModule, node: fx.Node) -> type[nn.Module] | None:
    """The type of activation that a node is, layer or function."""
    if node.op == "call_module":
        # One layer may serve several rows: it has no tensors.
        kind = type(traced.get_submodule(str(node.target)))
        return kind if kind in POSITIVE else None
    return _FUNCTIONS.get(node.target)


def _only_reader(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
