"""The order of nodes in `train_step.onnx`: what realises the memory saving.

A runtime told to keep file order allocates a tensor at its node and frees it after its last
reader, so order decides the peak. The traced order (forward, backward, update) keeps every
gradient until the update. Three rules on top of it:

- **lazy**: a node that depends on nothing but state and constants (a scaled kernel, 0.9 v) runs
  right before its first reader;
- **eager**: the nodes that serve the update of one parameter or statistic alone (its gradient, the
  optimizer's arithmetic) run together, as soon as all they wait for exists, so that no gradient
  outlives its use;
- **in place**: the node that writes `<entry>.next` runs after every other reader of `<entry>`, so
  that a caller may give both the same memory (docs/bundle.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from onnxscript import ir

from mobiletl.export.operators import ONNX_BY_NAME
from mobiletl.export.tracing.functions import NEXT

BATCH_INPUTS = ("h", "labels")
RESULTS = frozenset({"loss", "correct"})


def reorder(model: ir.Model) -> None:
    """Sort the graph's nodes in place by the three rules."""
    graph = model.graph
    nodes = list(graph)
    order = _Scheduler(graph, nodes).run()
    graph.remove(nodes)
    graph.extend(order)


@dataclass(frozen=True)
class _Update:
    """The nodes that serve one parameter or statistic alone, in traced order, and what they wait
    for.
    """

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
        for nodes in members.values():
            needed = {s for n in nodes for s in _sources(n)}
            needed.update(*(overwritten.get(n, ()) for n in nodes))
            after = frozenset(needed - set(nodes) - self._lazy)
            updates.append(_Update(tuple(sorted(nodes, key=position.__getitem__)), after))
        return updates

    def _served(self) -> dict[ir.Node, set[str]]:
        """For each node, the parameters, statistics and results that depend on it."""
        serves: dict[ir.Node, set[str]] = {node: set() for node in self._nodes}
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


def _sources(node: ir.Node) -> list[ir.Node]:
    """The nodes whose outputs `node` reads."""
    producers = (value.producer() for value in node.inputs if value is not None)
    return [p for p in producers if p is not None]
