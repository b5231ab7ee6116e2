"""What a pass has to say about itself, and the manager that holds it to that.

A pass takes a `Traced` and returns one. It keeps every output's value, folds nothing that is
trained, and assumes nothing about N and K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import fx

from mobiletl.export.tracing.trace import Traced


@dataclass(frozen=True)
class Pass:
    """One row. `legal` says why a training graph allows it.

    `before` are passes that find nothing, or something else, once this one has run the other way
    round: where a pipeline has them, they come later. `leaves_to` are passes that have to come
    later because of what this one leaves behind.
    """

    name: str
    run: Callable[[Traced], Traced]
    legal: str
    before: tuple[str, ...] = ()
    leaves_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """A pass that was run, and whether it changed the graph: the manager looks, nobody claims."""

    name: str
    changed: bool


def check_order(passes: Sequence[Pass]) -> None:
    """Raise ValueError for a pipeline whose order a pass does not allow."""
    names = [row.name for row in passes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"passes occur twice: {', '.join(twice)}")
    for place, row in enumerate(passes):
        early = [name for name in row.before if name in names[:place]]
        if early:
            raise ValueError(f"{row.name} has to come before {', '.join(early)}")
        missing = [name for name in row.leaves_to if name not in names[place:]]
        if missing:
            raise ValueError(f"{row.name} needs after it: {', '.join(missing)}")


def apply_passes(passes: Sequence[Pass], traced: Traced) -> tuple[Traced, tuple[Applied, ...]]:
    """Run `passes` in order; the graph is checked after each.

    Raises ValueError for an order that is not allowed, RuntimeError for a pass that leaves a graph
    behind which does not hold together.
    """
    check_order(passes)
    applied: list[Applied] = []
    for row in passes:
        before = _fingerprint(traced.graph.graph)
        traced = row.run(traced)
        try:
            traced.graph.graph.lint()
        except RuntimeError as error:
            raise RuntimeError(f"the pass {row.name} has broken the graph: {error}") from error
        applied.append(Applied(row.name, _fingerprint(traced.graph.graph) != before))
    return traced, tuple(applied)


def _fingerprint(graph: fx.Graph) -> tuple[object, ...]:
    """What a graph computes, whatever its nodes are called."""
    place = {node: index for index, node in enumerate(graph.nodes)}

    def numbered(node: fx.Node) -> int:
        return place[node]

    return tuple(
        (
            node.op,
            # Constants are called anew by every trace.
            str(node.target) if node.op == "call_function" else "",
            repr(fx.node.map_arg(node.args, numbered)),
            repr(fx.node.map_arg(node.kwargs, numbered)),
        )
        for node in graph.nodes
    )
