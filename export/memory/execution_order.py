"""The order of nodes in `train_step.onnx`: what realises the memory saving.

A runtime told to keep file order allocates a tensor at its node and frees it after its last
reader, so order decides the peak. The traced order (forward, backward, update) keeps every
gradient until the update. Four rules on top of it:

- **lazy**: a node that depends on nothing but state and constants (a scaled kernel, 0.9 v) runs
  right before its first reader;
- **eager**: the nodes that serve the update of one parameter or statistic alone run as soon as all
  they wait for exists, its gradient first, so that the map it is computed from is gone before the
  gradient of that map is there; then, once the old value is read, the optimizer's arithmetic, so
  that no gradient outlives its use;
- **kept**: what packs a map for the backward pass (a mask, bytes) runs where it was traced, though
  it may serve one update alone: the map that it replaces would be alive until then;
- **in place**: the node that writes `<entry>.next` runs after every other reader of `<entry>`, so
  that a caller may give both the same memory (docs/bundle.md).
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from onnxscript import ir

from mobiletl.export.operators import ONNX_BY_NAME
from mobiletl.export.tracing.functions import NEXT

BATCH_INPUTS = ("h", "labels")
RESULTS = frozenset({"loss", "correct"})
# What rules of lowering/onnx pack maps with, and use for nothing else.
PACKS = frozenset({"MatMulInteger", "QuantizeLinear"})
BACKWARD = "the backward pass"


def reorder(model: ir.Model) -> None:
    """Sort the graph's nodes in place by the four rules."""
    graph = model.graph
    nodes = list(graph)
    order = _Scheduler(graph, nodes).run()
    graph.remove(nodes)
    graph.extend(order)


@dataclass(frozen=True)
class _Update:
    """Nodes that serve one parameter or statistic alone, as traced, and what they wait for."""

    nodes: tuple[ir.Node, ...]
    after: frozenset[ir.Node]


class _Scheduler:
    def __init__(self, graph: ir.Graph, nodes: list[ir.Node]) -> None:
        self._nodes = nodes
        self._inputs = {value.name: value for value in graph.inputs}
        self._outputs = list(graph.outputs)
        self._done: set[ir.Node] = set()
        self._order: list[ir.Node] = []
        self._lazy = self._find_lazy()
        self._updates = self._find_updates()

    def run(self) -> list[ir.Node]:
        eager = {node for update in self._updates for node in update.nodes}
        for node in self._nodes:
            if node not in eager and node not in self._lazy:
                self._emit(node)
                self._flush()
        if self._updates:
            first = self._updates[0].nodes[0].name
            raise AssertionError(f"{len(self._updates)} updates wait for each other, first {first}")
        return self._order

    def _flush(self) -> None:
        """Emit every update that can run now."""
        waiting = []
        for update in self._updates:
            if update.after <= self._done:
                for node in update.nodes:
                    self._emit(node)
            else:
                waiting.append(update)
        self._updates = waiting

    def _emit(self, node: ir.Node) -> None:
        for source in _sources(node):
            if source not in self._done:
                self._emit(source)  # a lazy one
        self._order.append(node)
        self._done.add(node)

    def _find_lazy(self) -> set[ir.Node]:
        batch = {self._inputs[name] for name in BATCH_INPUTS}
        lazy: set[ir.Node] = set()
        for node in self._nodes:  # traced order: producers come first
            if batch.isdisjoint(node.inputs) and all(s in lazy for s in _sources(node)):
                lazy.add(node)
        return lazy

    def _find_updates(self) -> list[_Update]:
        members: dict[str, list[ir.Node]] = {}
        for node, owners in self._served().items():
            if len(owners) == 1 and RESULTS.isdisjoint(owners) and node not in self._lazy:
                members.setdefault(min(owners), []).append(node)
        position = {node: index for index, node in enumerate(self._nodes)}
        overwritten = self._readers_of_overwritten()
        updates = []
        for unordered in members.values():
            nodes = sorted(unordered, key=position.__getitem__)
            gradient = self._gradient(nodes)
            for part in (gradient, [node for node in nodes if node not in gradient]):
                needed = {s for n in part for s in _sources(n)}
                needed.update(*(overwritten.get(n, ()) for n in part))
                after = frozenset(needed - set(part) - self._lazy)
                updates.append(_Update(tuple(part), after))
        return [update for update in updates if update.nodes]

    def _gradient(self, nodes: list[ir.Node]) -> list[ir.Node]:
        """Those of an update's nodes, in traced order, that do without the state: its gradient.

        None where the gradient grows with the number of classes, or is larger than a picture's
        share of every map that it is computed from: it would cost more, while it waits, than the
        map that is gone sooner.
        """
        state = set(self._inputs.values()) - {self._inputs[name] for name in BATCH_INPUTS}
        found: dict[ir.Node, None] = {}
        for node in nodes:
            inside = [s for s in _sources(node) if s in nodes or s in self._lazy]
            if state.isdisjoint(node.inputs) and all(s in found for s in inside):
                found[node] = None
        read = [
            _elements(value)
            for node in found
            for value in node.inputs
            if value is not None and value.producer() not in found
        ]
        results = [v for node in found for v in node.outputs if _leaves(v, found)]
        if not all(_is_fixed(value) for value in results):
            return []
        kept = [_elements(value) for value in results]
        return list(found) if max(kept, default=0) <= max(read, default=0) else []

    def _served(self) -> dict[ir.Node, set[str]]:
        """For each node, the parameters, statistics and results that depend on it; `BACKWARD` for
        what packs a map.
        """
        serves: dict[ir.Node, set[str]] = {
            node: {BACKWARD} if node.op_type in PACKS else set() for node in self._nodes
        }
        for output in self._outputs:
            writer = output.producer()
            assert writer is not None
            serves[writer].add(_owner(str(output.name)))
        for node in reversed(self._nodes):
            for source in _sources(node):
                serves[source].update(serves[node])
        return serves

    def _readers_of_overwritten(self) -> dict[ir.Node, set[ir.Node]]:
        """For each writer of a state entry, who must have read the old value: its readers, or the
        readers of a lazy one.
        """
        readers: dict[ir.Node, set[ir.Node]] = {}
        for output in self._outputs:
            name = str(output.name)
            writer = output.producer()
            if name.endswith(NEXT) and writer is not None:
                entry = self._inputs[name[: -len(NEXT)]]
                direct = {n for n in self._nodes if entry in n.inputs}
                readers[writer] = self._eventual(direct) - {writer}
        return readers

    def _eventual(self, nodes: set[ir.Node]) -> set[ir.Node]:
        found: set[ir.Node] = set()
        for node in nodes:
            if node in self._lazy:
                found |= self._eventual({r for v in node.outputs for r in v.consumers()})
            else:
                found.add(node)
        return found


def check_in_place(model: ir.Model) -> None:
    """Raise AssertionError unless every `<entry>.next` may overwrite `<entry>` in file order."""
    inputs = {value.name: value for value in model.graph.inputs}
    position = {node: index for index, node in enumerate(model.graph)}
    for output in model.graph.outputs:
        name = str(output.name)
        if not name.endswith(NEXT):
            continue
        entry, writer = inputs[name[: -len(NEXT)]], output.producer()
        assert writer is not None, f"{name} is not computed"
        row = ONNX_BY_NAME.get(writer.op_type)
        assert row is not None, f"{name} is written by {writer.op_type}, which has no row"
        assert row.elementwise, f"{name} is written by {writer.op_type}"
        assert entry.shape == output.shape, f"{name} is {output.shape}, its entry {entry.shape}"
        late = [n.name for n in position if entry in n.inputs and position[n] > position[writer]]
        assert not late, f"{entry.name} is read after it is overwritten, by {late}"


def _owner(output: str) -> str:
    """Whom an output serves: `sgd.momentum/a.weight.next` serves `a.weight`."""
    return output.rpartition("/")[2].removesuffix(NEXT)


def _elements(value: ir.Value | None) -> int:
    """How many elements a tensor has for one picture and one class, as far as its shape says."""
    shape = () if value is None or value.shape is None else value.shape
    return math.prod(size for size in shape if isinstance(size, int))


def _is_fixed(value: ir.Value) -> bool:
    """Whether its shape, if known, is the same for any number of pictures and classes."""
    return value.shape is None or all(isinstance(size, int) for size in value.shape)


def _leaves(value: ir.Value, nodes: Container[ir.Node]) -> bool:
    """Whether it is a result, or anything but `nodes` reads it."""
    readers = list(value.consumers())
    return not readers or any(reader not in nodes for reader in readers)


def _sources(node: ir.Node) -> list[ir.Node]:
    """The nodes whose outputs `node` reads."""
    producers = (value.producer() for value in node.inputs if value is not None)
    return [p for p in producers if p is not None]
