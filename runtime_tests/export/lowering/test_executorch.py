"""The exported ExecuTorch program against the traced step and PyTorch's own arithmetic.

Errors are ||a - b|| / ||b|| over a tensor. Shifts are moved clear of the kinks of the activations
first (`runtime_tests/support/kinks.py`), where two programs that round differently take different
slopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.masks import masked_hardswish
from mobiletl.core.optimizers import Sgd
from mobiletl.core.saved.one_bit import OneBitPositiveReLU6
from mobiletl.core.step import TrainingStep
from mobiletl.export.lowering.executorch.rules import KERNELS, RULES
from mobiletl.export.memory.plan import plan_graph
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.stock_graphs import lower_train_step
from mobiletl.export.tracing.functions import trace_features, trace_predict, trace_train_step
from mobiletl.export.tracing.trace import Input, trace
from runtime_tests.support.kinks import clear_of_kinks
from runtime_tests.support.networks import CLASSES, RESOLUTION, feature_shape, small_transfer

pytest.importorskip("executorch", reason="needs the executorch package")
lowering = pytest.importorskip("mobiletl.export.lowering.executorch.program")

BATCH = 4
ERROR = 1e-5
BLOCKS = 1


@dataclass(frozen=True)
class Lowered:
    """A step, the file made from it, and a batch to run both on."""

    step: TrainingStep
    transfer: Any
    program: Any
    methods: Any
    images: Tensor
    h: Tensor

    def state(self) -> list[Tensor]:
        """What training starts from; slots are not zero, as after some steps."""
        generator = torch.Generator().manual_seed(3)
        return [
            torch.rand(e.value.shape, generator=generator) if e.role == "slot" else e.value.clone()
            for e in self.step.entries
        ]

    @property
    def batch(self) -> list[Tensor]:
        return [self.h, torch.arange(BATCH) % CLASSES, torch.tensor(0.1)]

    def run(self, name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        results: list[Tensor] = self.methods.load_method(name)(list(inputs))
        return results


def _lower(method: str, blocks: int | None) -> Lowered:
    transfer = small_transfer(method, blocks)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION, generator=generator)
    with torch.no_grad():
        h = transfer.prefix(images).contiguous()
    clear_of_kinks(transfer.top, h.numpy())
    step = TrainingStep(transfer.top, Sgd())
    shape = feature_shape(blocks)
    program = lowering.lower_to_executorch(
        trace_features(transfer, RESOLUTION, 1),
        run_passes(trace_train_step(step, shape, BATCH, CLASSES)),
        run_passes(trace_predict(step, shape, 1, CLASSES)),
        step.entries,
    )
    return Lowered(step, transfer, program, _load(program.content), images, h)


def _load(content: bytes) -> Any:
    from executorch.extension.pybindings import _C

    return _C._load_program_from_buffer(content)


@pytest.fixture(scope="module")
def masked() -> Lowered:
    return _lower("mobiletl", BLOCKS)


def _error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))


@pytest.mark.slow
def test_a_step_updates_every_entry_as_pytorch_does(masked: Lowered) -> None:
    state = masked.state()
    loss, correct, *wanted = masked.step.train(masked.state(), *masked.batch)
    results = masked.run("train_step", [*state, *masked.batch])
    assert len(results) == 2
    assert float(results[0]) == pytest.approx(float(loss), rel=ERROR)
    assert int(results[1]) == int(correct)
    errors = {
        e.name: _error(a, b) for e, a, b in zip(masked.step.entries, state, wanted, strict=True)
    }
    assert max(errors.values()) <= ERROR, errors


@pytest.mark.slow
def test_the_second_step_starts_where_the_first_ended(masked: Lowered) -> None:
    state = masked.state()
    _, _, *wanted = masked.step.train(masked.state(), *masked.batch)
    loss, *_ = masked.step.train(wanted, *masked.batch)
    masked.run("train_step", [*state, *masked.batch])
    assert float(masked.run("train_step", [*state, *masked.batch])[0]) == pytest.approx(
        float(loss), rel=1e-4
    )


@pytest.mark.slow
def test_the_backward_pass_is_the_masked_one(masked: Lowered) -> None:
    """Pre-activations above 6 pass gradient under the mask and none under ReLU6's own slope."""
    state = masked.state()
    names = [e.name for e in masked.step.entries]
    name = next(n for n in names if n.endswith("conv.0.0.weight") and "momentum" not in n)
    for index, entry in enumerate(masked.step.entries):
        if entry.name.endswith("conv.0.1.bias") and entry.role == "parameter":
            state[index] += 6.0  # so that many pre-activations lie above 6
        if entry.role == "slot":
            state[index].zero_()  # then it is the gradient after the step
    slot = names.index(f"sgd.momentum/{name}")
    masked_step = masked.step.train([s.clone() for s in state], *masked.batch)[2:]
    with _ExactActivations():
        exact_step = masked.step.train([s.clone() for s in state], *masked.batch)[2:]
    masked.run("train_step", [*state, *masked.batch])
    assert _error(exact_step[slot], masked_step[slot]) > 1e-2
    assert _error(state[slot], exact_step[slot]) > 1e-2
    assert _error(state[slot], masked_step[slot]) <= 1e-3


class _ExactActivations:
    """Inside, the masked activations are differentiated exactly."""

    def __enter__(self) -> None:
        self._masked = OneBitPositiveReLU6.forward
        OneBitPositiveReLU6.forward = (  # type: ignore[method-assign]
            lambda _, a: a.clamp(0.0, 6.0)
        )

    def __exit__(self, *_: object) -> None:
        OneBitPositiveReLU6.forward = self._masked  # type: ignore[method-assign]


@pytest.mark.slow
def test_features_and_predict_take_one_picture(masked: Lowered) -> None:
    h = torch.cat([masked.run("features", [i.unsqueeze(0)])[0].clone() for i in masked.images])
    assert _error(h, masked.h) <= ERROR
    state = [
        v for v, e in zip(masked.state(), masked.step.entries, strict=True) if e.role != "slot"
    ]
    rows = []
    for row in masked.h:
        results = masked.run("predict", [*state, row.unsqueeze(0)])
        rows.append([result.clone() for result in results])
    logits, embedding = (torch.cat(results) for results in zip(*rows, strict=True))
    wanted_logits, wanted_embedding = masked.step.predict(state, masked.h)
    assert _error(logits, wanted_logits) <= ERROR
    assert _error(embedding, wanted_embedding) <= ERROR


@pytest.mark.slow
def test_masks_stay_packed_and_the_arena_keeps_to_the_memory_plan(masked: Lowered) -> None:
    plan = plan_graph(lower_train_step(masked.step, feature_shape(BLOCKS)))
    planned = plan.peak(BATCH, CLASSES)
    assert 0 < masked.program.arena_bytes["train_step"] <= 1.5 * planned


@pytest.mark.slow
def test_exact_backward_passes_are_exported_too() -> None:
    lowered = _lower("ft-blocks", 1)
    state = lowered.state()
    _, _, *wanted = lowered.step.train(lowered.state(), *lowered.batch)
    lowered.run("train_step", [*state, *lowered.batch])
    errors = {
        e.name: _error(a, b) for e, a, b in zip(lowered.step.entries, state, wanted, strict=True)
    }
    assert max(errors.values()) <= 1e-4, errors


def _run_alone(function: Any, example: Tensor) -> Tensor:
    """`function` lowered and run as a method of its own."""
    from mobiletl.export.lowering.executorch.library import executorch_program, exported
    from mobiletl.export.lowering.executorch.memory import InPlacePlanning

    traced = trace(lambda a: (function(a),), [Input("a", tuple(example.shape))], ["y"])
    graph = lowering.translate(traced).graph
    program = executorch_program(
        {"forward": exported(graph, (example,))}, set(), {"forward": InPlacePlanning([None])}
    )
    result: Tensor = _load(program.buffer).load_method("forward")([example.clone()])[0]
    return result


@pytest.mark.slow
@pytest.mark.parametrize("above", [0.0, 5.0])
def test_a_masked_hard_swish_keeps_its_values_and_its_slope(above: float) -> None:
    a = torch.linspace(-6.0, 6.0, 8 * 32).view(1, 8, 4, 8) + above + 0.01

    def value_and_slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            y = masked_hardswish(leaf)
            (slope,) = torch.autograd.grad(y.sum(), leaf)
        return y.detach() + 100.0 * slope

    assert _error(_run_alone(value_and_slope, a), value_and_slope(a)) <= ERROR


def test_an_operator_without_translation_is_named_with_its_module() -> None:

    def function(state: Tensor, h: Tensor) -> tuple[Tensor]:
        return (torch.erfinv(h * state),)

    inputs = [Input("features.3.conv.weight", (4,)), Input("h", (4,))]
    with pytest.raises(UnsupportedModel, match=r"erfinv.*features\.3\.conv.*executorch/rules"):
        lowering.translate(trace(function, inputs, ["y"]))


def test_no_operator_is_in_both_tables() -> None:
    assert not KERNELS & set(RULES)
