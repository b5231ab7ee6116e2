"""The holes between tensors in onnxruntime's memory, against an arena written differently."""

from __future__ import annotations

from itertools import pairwise

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobiletl.device.sessions.arena import region_bytes
from mobiletl.export.memory.plan import plan_graph, tensor_bytes, turns
from mobiletl.export.memory.region import BATCHES, holes
from runtime_tests.support.graphs_by_hand import CASES, Shape, X, model, node

CLASSES = 10


def in_units(size: int) -> int:
    return max(1, -(-size // 256))


class Units:
    """A region as one flag for each 256 bytes; it looks at all of them every time."""

    def __init__(self, units: int) -> None:
        self.taken = [False] * units
        self.reached = 0

    def take(self, size: int) -> range:
        runs, begin = [], None
        for at, taken in enumerate([*self.taken, True]):
            if taken and begin is not None:
                runs.append((at - begin, begin))
                begin = None
            elif not taken and begin is None:
                begin = at
        wanted = in_units(size)
        _, begin = min(run for run in runs if run[0] >= wanted)
        place = range(begin, begin + wanted)
        self.mark(place, True)
        self.reached = max(self.reached, place.stop)
        return place

    def mark(self, place: range, taken: bool) -> None:
        for at in place:
            self.taken[at] = taken


def reach(graph: onnx.ModelProto, batch: int) -> int:
    """How far tensors reach, in bytes."""
    sizes = {name: size.at(batch, CLASSES) for name, size in tensor_bytes(graph).items()}
    alive = plan_graph(graph).peak(batch, CLASSES)
    units, places = Units(in_units(region_bytes(alive))), {}
    for turn in turns(graph.graph, tensor_bytes(graph)):
        places.update({name: units.take(sizes[name]) for name in turn.allocated})
        for place in [units.take(sizes[name]) for name in turn.scratch]:
            units.mark(place, False)
        for name in turn.freed:
            units.mark(places.pop(name), False)
    return 256 * units.reached


def agrees(graph: onnx.ModelProto) -> None:
    plan = plan_graph(graph)
    for batch, share in holes(graph, plan):
        if batch <= 8:
            alive = plan.peak(batch, CLASSES)
            assert share == pytest.approx(max(0.0, reach(graph, batch) / alive - 1), abs=0.001)


@pytest.mark.parametrize("name", CASES)
def test_graphs_made_by_hand(name: str) -> None:
    agrees(CASES[name][0])


def test_a_hole_that_is_too_small_by_hand() -> None:
    """a has 256 N bytes and b, behind it, 512 N. Where a was is no room for the 512 N of c."""
    nodes = [
        node("Neg", "x", "a"),
        node("Concat", "a a", "b", axis=1),
        node("Abs", "b", "c"),
        node("Neg", "c", "out"),
    ]
    graph = model(nodes, {"out": ["N", 128]}, {"x": ["N", 64]})
    plan = plan_graph(graph)
    agrees(graph)
    # b and c are alive at once.
    assert plan.peak(4, CLASSES) == 4 * 1024
    found = dict(holes(graph, plan))
    assert list(found) == list(BATCHES)
    assert found[4] == pytest.approx(0.25)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=2, max_size=12))
def test_any_chain_of_tensors(steps: list[tuple[int, bool]]) -> None:
    """Tensors of any sizes, some of which are read again at the end."""
    widths = [4, *(8 * eighth for eighth, _ in steps)]
    names = ["x", *(f"t{index}" for index in range(len(steps)))]
    inputs: dict[str, Shape] = dict(X)
    nodes = []
    for index, (before, name) in enumerate(pairwise(names)):
        inputs[f"w{index}"] = [widths[index], widths[index + 1]]
        nodes.append(node("MatMul", f"{before} w{index}", name))
    read = [index for index, (_, kept) in enumerate(steps, 1) if kept or index == len(steps)]
    nodes.append(node("Concat", " ".join(names[index] for index in read), "out", axis=1))
    agrees(model(nodes, {"out": ["N", sum(widths[index] for index in read)]}, inputs))
