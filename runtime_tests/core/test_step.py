"""The training step as a pure function, against modules trained the ordinary way."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mobiletl.core.optimizers import Adam, Sgd
from mobiletl.core.step import TrainingStep, cross_entropy
from runtime_tests.support.networks import (
    CLASSES,
    feature_shape,
    run_eager,
    small_step,
    small_transfer,
    step_arguments,
)

# The same operators on the same numbers; float32 sums in another order.
STEP = {"rtol": 1e-5, "atol": 1e-6}
LOSS = {"rtol": 1e-6, "atol": 1e-6}
METHODS = [("mobiletl", 2), ("ft-blocks", 2), ("ft-last", None)]


@given(st.integers(1, 9), st.integers(2, 12), st.integers(0, 2**31), st.sampled_from([1.0, 60.0]))
@settings(deadline=None, max_examples=60)
def test_cross_entropy_is_that_of_torch(batch: int, classes: int, seed: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, generator=generator).mul(spread).requires_grad_()
    labels = torch.randint(classes, (batch,), generator=generator)
    found, expected = cross_entropy(logits, labels), functional.cross_entropy(logits, labels)
    torch.testing.assert_close(found, expected, **LOSS)
    torch.testing.assert_close(
        torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits), **LOSS
    )


@pytest.mark.parametrize(("method", "blocks"), METHODS)
def test_gradients_are_those_of_backward(method: str, blocks: int | None) -> None:
    step = small_step(method, blocks)
    *state, h, labels, _ = step_arguments(step, feature_shape(blocks))
    loss, gradients = step.gradients(state, h, labels)
    top = small_transfer(method, blocks).top
    expected = functional.cross_entropy(top(h), labels)
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected.detach(), **LOSS)
    parameters = dict(top.named_parameters())
    assert gradients.keys() == parameters.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, parameters[name].grad, **STEP, msg=name)


@pytest.mark.parametrize("optimizer", [Sgd(), Adam()], ids=["sgd", "adam"])
@pytest.mark.parametrize(("method", "blocks"), METHODS)
def test_steps_are_those_of_ordinary_training(
    method: str, blocks: int | None, optimizer: Sgd | Adam
) -> None:
    """Three steps: parameters, statistics and loss."""
    step = small_step(method, blocks, optimizer)
    arguments = step_arguments(step, feature_shape(blocks), batch=6, lr=0.001)
    for index, entry in enumerate(step.entries):
        if entry.role == "slot":
            arguments[index] = torch.zeros_like(entry.value)
    top = copy.deepcopy(step.top).train()
    if isinstance(optimizer, Sgd):
        theirs: torch.optim.Optimizer = torch.optim.SGD(top.parameters(), 0.001, momentum=0.9)
    else:
        # An epsilon above rounding: a gradient that is 0 but for rounding would else move by lr.
        step = TrainingStep(step.top, Adam(epsilon=1e-4))
        theirs = torch.optim.Adam(top.parameters(), 0.001, eps=1e-4)
    for _ in range(3):
        found = run_eager(step, arguments)
        arguments[: len(step.entries)] = [found[e.name + ".next"] for e in step.entries]
        theirs.zero_grad()
        loss = functional.cross_entropy(top(arguments[-3]), arguments[-2])
        loss.backward()  # type: ignore[no-untyped-call]
        theirs.step()
        torch.testing.assert_close(found["loss"], loss.detach(), **STEP)
    expected = top.state_dict()
    for entry in step.entries:
        if entry.role != "slot":
            torch.testing.assert_close(
                found[entry.name + ".next"], expected[entry.name], **STEP, msg=entry.name
            )


def test_correct_counts_the_largest_logits_before_the_update() -> None:
    step = small_step("ft-last", None)
    *state, h, _, lr = step_arguments(step, (1280, 1, 1), batch=8)
    with torch.no_grad():
        guesses = step.top(h).argmax(1)
    labels = guesses.clone()
    labels[:3] = (labels[:3] + 1) % CLASSES
    _, correct, *_ = step.train(state, h, labels, lr)
    assert correct.dtype == torch.int64
    assert correct == 5


def test_training_does_not_touch_its_arguments() -> None:
    step = small_step("ft-blocks", 1)
    arguments = step_arguments(step, feature_shape(1))
    before = [argument.clone() for argument in arguments]
    run_eager(step, arguments)
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


@pytest.mark.parametrize(("method", "blocks"), METHODS)
def test_prediction_is_the_module_in_inference_mode(method: str, blocks: int | None) -> None:
    step = small_step(method, blocks)
    h = torch.randn(3, *feature_shape(blocks))
    state = [entry.value for entry in step.predict_entries]
    with torch.no_grad():
        logits, embedding = step.predict(state, h)
        top = small_transfer(method, blocks).top.eval()
        assert torch.equal(logits, top(h))
        assert torch.equal(embedding, top.embed(h))
    assert embedding.shape == (3, top.embedding_size)
    layer = top.get_submodule(top.classes_layer)
    torch.testing.assert_close(logits, layer(embedding), **LOSS)


@pytest.mark.parametrize(("method", "blocks"), METHODS)
def test_prediction_reads_the_state_it_is_given(method: str, blocks: int | None) -> None:
    """Embedding and logits follow a trained state, not the modules' own tensors."""
    step = small_step(method, blocks)
    h = torch.randn(3, *feature_shape(blocks))
    moved = [entry.value + 0.1 for entry in step.predict_entries]
    top = copy.deepcopy(step.top).eval()
    names = [entry.name for entry in step.predict_entries]
    top.load_state_dict(dict(zip(names, moved, strict=True)), strict=False)
    with torch.no_grad():
        logits, embedding = step.predict(moved, h)
        assert torch.equal(logits, top(h))
        assert torch.equal(embedding, top.embed(h))


def test_state_is_in_order_and_names_its_owners() -> None:
    step = small_step("mobiletl", 1, Adam())
    roles = [entry.role for entry in step.entries]
    assert roles == sorted(roles, key=["parameter", "statistic", "slot"].index)
    parameters = step.named("parameter")
    slots = [e for e in step.entries if e.role == "slot"]
    scalars = {slot.name: slot.value.shape for slot in slots[:2]}
    assert scalars == {"adam.correction1": (), "adam.correction2": ()}
    for slot in slots[2:]:
        kind, _, owner = slot.name.partition("/")
        assert kind in ("adam.m", "adam.v")
        assert slot.owner == owner
        assert slot.value.shape == parameters[owner].shape
    assert len(slots) == 2 + 2 * len(parameters)
    per_class = [entry.name for entry in step.entries if entry.per_class]
    heads = ("classifier.1.weight", "classifier.1.bias")
    assert per_class == [*heads, *(f"adam.{s}/{head}" for head in heads for s in ("m", "v"))]
