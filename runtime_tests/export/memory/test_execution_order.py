"""The order of the real step: each rule on its own, and what it is for, less memory."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import pytest
from onnxscript import ir

from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.core.methods import find_method
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.memory.execution_order import BATCH_INPUTS, NEXT, check_in_place, reorder
from mobiletl.export.memory.plan import plan_graph
from mobiletl.export.passes.pipelines import run_passes
from runtime_tests.support.graphs_by_hand import model, node
from runtime_tests.support.networks import trace_step

METHODS = ["mobiletl", pytest.param("ft-blocks", marks=pytest.mark.slow)]


@dataclass(frozen=True)
class Orders:
    """One step of MobileNetV2's top three blocks, as traced and as scheduled."""

    traced: onnx.ModelProto
    scheduled: onnx.ModelProto
    parameters: list[str]


@pytest.fixture(scope="module", params=METHODS)
def orders(request: pytest.FixtureRequest) -> Orders:
    transfer = find_method(request.param).prepare(MobileNetV2(5).eval(), 3)
    step = TrainingStep(transfer.top, Sgd())
    graph = lower_to_onnx(run_passes(trace_step(step, (160, 7, 7))), "train_step")
    traced = ir.to_proto(graph)
    reorder(graph)
    check_in_place(graph)
    return Orders(traced, ir.to_proto(graph), list(step.named("parameter")))


def writers(graph: onnx.GraphProto) -> dict[str, int]:
    return {name: index for index, n in enumerate(graph.node) for name in n.output}


def served(graph: onnx.GraphProto) -> list[set[str]]:
    """For each node, the results that depend on it."""
    place = writers(graph)
    found: list[set[str]] = [set() for _ in graph.node]
    for value in graph.output:
        found[place[value.name]].add(value.name)
    for index in reversed(range(len(graph.node))):
        for name in graph.node[index].input:
            if name in place:
                found[place[name]] |= found[index]
    return found


def of_the_state_alone(graph: onnx.GraphProto) -> set[int]:
    """Nodes that no input of the batch leads to."""
    moving, alone = set(BATCH_INPUTS), set()
    for index, n in enumerate(graph.node):
        if moving.isdisjoint(n.input):
            alone.add(index)
        else:
            moving.update(n.output)
    return alone


def test_same_nodes_in_a_valid_order(orders: Orders) -> None:
    graph = orders.scheduled.graph
    key = [(n.op_type, *n.input, *n.output) for n in orders.traced.graph.node]
    assert sorted(key) == sorted((n.op_type, *n.input, *n.output) for n in graph.node)
    known = {v.name for v in graph.input} | {t.name for t in graph.initializer} | {""}
    for n in graph.node:
        assert known.issuperset(n.input), f"{n.name} runs before its inputs exist"
        known.update(n.output)


def test_lazy_nodes_run_right_before_their_first_reader(orders: Orders) -> None:
    graph = orders.scheduled.graph
    alone = of_the_state_alone(graph)
    assert len(alone) > 10
    for index in alone:
        readers = [
            i for i, n in enumerate(graph.node) if set(graph.node[index].output) & set(n.input)
        ]
        between = set(range(index + 1, min(readers)))
        assert between <= alone, f"{graph.node[index].name} waits for its reader"


def gradients(orders: Orders, graph: onnx.GraphProto) -> dict[str, int]:
    """For each parameter, the node that completes its gradient, or that reads its old value last
    before the update. Left out are gradients that are read twice: those of a trained norm's scale
    and shift are a part of its input's.
    """
    place, alone = writers(graph), of_the_state_alone(graph)
    found = {}
    for parameter in orders.parameters:
        velocity = graph.node[place[f"sgd.momentum/{parameter}{NEXT}"]]
        (gradient,) = (name for name in velocity.input if place[name] not in alone)
        if sum(gradient in n.input for n in graph.node) == 1:
            found[parameter] = max(place[gradient], last_reader(graph, parameter, alone))
    return found


def last_reader(graph: onnx.GraphProto, parameter: str, alone: set[int]) -> int:
    """The last node that the old value reaches, itself or as a part of a scaled kernel; its update
    is left out.
    """
    reached = {parameter}
    for index in sorted(alone):
        if reached & set(graph.node[index].input):
            reached.update(graph.node[index].output)
    update = writers(graph)[parameter + NEXT]
    readers = [i for i, n in enumerate(graph.node) if reached & set(n.input) and i not in alone]
    return max(i for i in readers if i != update)


def strangers(graph: onnx.GraphProto, parameter: str, start: int) -> int:
    """Nodes that run between a complete gradient and the update, and serve anything else."""
    place, serves, alone = writers(graph), served(graph), of_the_state_alone(graph)
    own = {f"{parameter}{NEXT}", f"sgd.momentum/{parameter}{NEXT}"}
    end = max(place[name] for name in own)
    return sum(i not in alone and not serves[i] <= own for i in range(start + 1, end + 1))


def test_no_gradient_outlives_its_use(orders: Orders) -> None:
    found = gradients(orders, orders.scheduled.graph)
    assert {p for p in orders.parameters if p.endswith("0.weight")} <= found.keys()
    for parameter, start in found.items():
        assert strangers(orders.scheduled.graph, parameter, start) == 0, parameter


def test_gradients_do_wait_in_traced_order(orders: Orders) -> None:
    found = gradients(orders, orders.traced.graph)
    waiting = [strangers(orders.traced.graph, p, start) > 0 for p, start in found.items()]
    assert sum(waiting) > 0.9 * len(waiting)


def test_entries_are_overwritten_after_their_last_reader(orders: Orders) -> None:
    graph = orders.scheduled.graph
    place = writers(graph)
    for value in graph.output:
        if value.name.endswith(NEXT):
            entry = value.name.removesuffix(NEXT)
            readers = [i for i, n in enumerate(graph.node) if entry in n.input]
            assert max(readers) <= place[value.name], entry


FOUR: list[int | str] = [4]


def reordered(nodes: list[onnx.NodeProto], entries: str) -> list[str]:
    """The names of the nodes in their new order; everything has four elements."""
    results = ["loss", *(entry + NEXT for entry in entries.split())]
    inputs = [*entries.split(), *BATCH_INPUTS, "scale"]
    graph = ir.from_proto(model(nodes, dict.fromkeys(results, FOUR), dict.fromkeys(inputs, FOUR)))
    reorder(graph)
    return [str(n.name) for n in graph.graph]


def test_a_map_is_gone_before_the_gradient_of_it_is_there() -> None:
    """x = h W + U, y = x V: dV comes before dx, though it was traced behind it, and its update
    waits for dx, which reads the old V.
    """
    nodes = [
        *(node("Mul", "h W", "a"), node("Add", "a U", "x")),
        *(node("Mul", "x V", "y"), node("Mul", "y labels", "loss")),
        *(node("Mul", "y V", "dx"), node("Mul", "y x", "dV")),
        *(node("Mul", "dx h", "dW"), node("Sub", "V dV", "V.next")),
        *(node("Sub", "W dW", "W.next"), node("Sub", "U dx", "U.next")),
    ]
    order = reordered(nodes, "U V W")
    assert order.index("dV") < order.index("dx") < order.index("V.next")


def test_what_packs_a_map_runs_where_it_was_traced() -> None:
    """Though it serves one update alone, and could wait for it."""
    nodes = [
        *(node("QuantizeLinear", "h scale", "packed"), node("Mul", "h W", "y")),
        *(node("Mul", "y labels", "loss"), node("DequantizeLinear", "packed scale", "back")),
        *(node("Mul", "y back", "dW"), node("Sub", "W dW", "W.next")),
    ]
    order = reordered(nodes, "W")
    assert order[0] == "packed"
    assert order.index("back") > order.index("y")


@pytest.mark.parametrize(("batch", "classes"), [(1, 2), (8, 10), (32, 100), (3, 1000)])
def test_scheduled_order_needs_no_more_memory(orders: Orders, batch: int, classes: int) -> None:
    scheduled, traced = plan_graph(orders.scheduled), plan_graph(orders.traced)
    assert scheduled.peak(batch, classes) <= traced.peak(batch, classes)


ENTRY: dict[str, list[int | str]] = {"w": [4], "h": [4]}


@pytest.mark.parametrize(
    ("nodes", "outputs", "reason"),
    [
        (
            [node("Sub", "w h", "w.next"), node("Add", "w h", "loss")],
            {"w.next": [4], "loss": [4]},
            "w is read after it is overwritten, by .*loss",
        ),
        ([node("MatMul", "w h", "w.next")], {"w.next": []}, "w.next is written by MatMul"),
        ([node("Sub", "h w", "w.next")], {"w.next": [1]}, r"w.next is .*its entry"),
    ],
    ids=["read later", "not elementwise", "another shape"],
)
def test_check_in_place_catches(
    nodes: list[onnx.NodeProto], outputs: dict[str, list[int | str]], reason: str
) -> None:
    graph = ir.from_proto(model(nodes, outputs, ENTRY))
    with pytest.raises(AssertionError, match=reason):
        check_in_place(graph)


def test_reorder_repairs_an_early_overwrite() -> None:
    """The loss reads the entry, and is computed after the update in the traced order."""
    nodes = [
        *(node("Sub", "w h", "w.next"), node("Mul", "w h", "product")),
        node("Add", "product labels", "loss"),
    ]
    inputs: dict[str, list[int | str]] = {**ENTRY, "labels": [4]}
    graph = ir.from_proto(model(nodes, {"w.next": [4], "loss": [4]}, inputs))
    with pytest.raises(AssertionError):
        check_in_place(graph)
    reorder(graph)
    check_in_place(graph)
    assert [n.name for n in graph.graph] == ["product", "w.next", "loss"]


def test_output_that_passes_an_input_on_is_not_computed() -> None:
    graph = ir.from_proto(model([node("Neg", "h", "loss")], {"loss": [4]}, ENTRY))
    graph.graph.outputs.append(ir.Value(name="w.next", shape=ir.Shape([4])))
    with pytest.raises(AssertionError, match=r"w.next is not computed"):
        check_in_place(graph)
