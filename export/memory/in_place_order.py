"""An order of a traced step in which the new state can be written over the old one.

A trace has all gradients first and then all updates: every gradient is alive at once, beside a
second state. Here an update is computed as soon as what it needs is there, and its result is
stored once nobody reads the old value any more. The rest keeps its order.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from mobiletl.export.operators import VIEWS

aten = torch.ops.aten


@dataclass(frozen=True)
class Store:
    """Write `value` over the state entry that `entry` (a placeholder) stands for."""

    entry: fx.Node
    value: fx.Node


def is_own_copy(node: fx.Node, new_values: Mapping[fx.Node, fx.Node]) -> bool:
    """Whether `node` copies an entry only to be written to and returned as that entry's new value.

    Batch norm updates its statistics that way. The copy is not needed where the entry itself may
    be written to.
    """
    if node.target is not aten.clone.default:
        return False
    (entry,) = node.args[:1]
    return isinstance(entry, fx.Node) and new_values.get(entry) is node and len(entry.users) == 1


def in_place_order(
    graph: fx.Graph, new_values: Mapping[fx.Node, fx.Node], for_updates: Iterable[fx.Node]
) -> Iterator[fx.Node | Store]:
    """Yield every computing node of `graph` once, and a Store per entry that changes.

    `new_values` maps the placeholder of each state entry to the node of its new value;
    `for_updates` are the placeholders that only updates read: slots and the learning rate.
    """
    late = _reachable(for_updates)
    waiting = {
        entry: Store(entry, value)
        for entry, value in new_values.items()
        if value is not entry and not is_own_copy(value, new_values)
    }
    needs = {entry: _roots(store.value, late) for entry, store in waiting.items()}
    readers = {entry: readers_of_memory(entry, VIEWS) for entry in waiting}
    done: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op not in ("call_function", "get_attr") or node in late:
            continue
        done.add(node)
        yield node
        for step in _due(waiting, needs, late, done):
            done.add(step)
            yield step
        for entry in [entry for entry in waiting if needs[entry] | readers[entry] <= done]:
            yield waiting.pop(entry)


def _due(
    waiting: Mapping[fx.Node, Store],
    needs: Mapping[fx.Node, set[fx.Node]],
    late: set[fx.Node],
    done: set[fx.Node],
) -> Iterator[fx.Node]:
    """The nodes of updates whose needs are met."""
    for entry, store in waiting.items():
        if needs[entry] <= done:
            yield from _cone(store.value, late, done)


def _reachable(sources: Iterable[fx.Node]) -> set[fx.Node]:
    """Every node that depends on one of `sources`."""
    found: set[fx.Node] = set()
    pending = list(sources)
    while pending:
        new = {user for user in pending.pop().users if user.op != "output"} - found
        found |= new
        pending += new
    return found


def _roots(value: fx.Node, late: set[fx.Node]) -> set[fx.Node]:
    """What must be computed before the late nodes that lead to `value`."""
    found: set[fx.Node] = set()
    seen: set[fx.Node] = set()
    pending = [value]
    while pending:
        node = pending.pop()
        if node in seen or node.op == "placeholder":
            continue
        seen.add(node)
        if node in late:
            pending += node.all_input_nodes
        else:
            found.add(node)
    return found


def _cone(value: fx.Node, late: set[fx.Node], done: set[fx.Node]) -> list[fx.Node]:
    """The late nodes that `value` still needs, itself included, inputs before readers."""
    cone: list[fx.Node] = []
    pending = [value]
    while pending:
        node = pending.pop()
        if node in late and node not in done and node not in cone:
            cone.append(node)
            pending += node.all_input_nodes
    return sorted(cone)


def readers_of_memory(entry: fx.Node, views: Container[Any]) -> set[fx.Node]:
    """Every node that reads the entry's memory, through operators of `views` as well."""
    found: set[fx.Node] = set()
    pending = [entry]
    while pending:
        for reader in pending.pop().users:
            if reader.op == "output" or reader in found:
                continue
            found.add(reader)
            if reader.target in views:
                pending.append(reader)
    return found
