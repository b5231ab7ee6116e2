"""What is kept is a policy apart from the method: same numbers, other bytes; a row is one file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mobiletl.core.accounting.account import account
from mobiletl.core.backbones import find_backbone
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.methods import METHODS, Method, find_method
from mobiletl.core.optimizers import Sgd
from mobiletl.core.saved import EIGHT_BIT, FLOAT32, ONE_BIT, SAVED, Saved, find_saved
from mobiletl.core.saved.policy import StandIn
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer
from mobiletl.export.memory.plan import plan_graph
from mobiletl.export.memory.verifier import verify_plan
from mobiletl.export.stock_graphs import lower_train_step
from runtime_tests.support.kinks import clear_of_kinks
from runtime_tests.support.networks import CLASSES, RESOLUTION, small_network

BATCH = 4

pytestmark = pytest.mark.usefixtures("one_thread")


def prepared(method: Method, saved: Saved | None) -> Transfer:
    blocks = None if method.default_blocks is None else 1
    torch.manual_seed(0)
    return method.prepare(small_network(), blocks, resolution=RESOLUTION, saved=saved)


def step_of(transfer: Transfer) -> tuple[TrainingStep, Tensor]:
    images = torch.randn(
        BATCH, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        h = transfer.prefix(images)
    return TrainingStep(transfer.top, Sgd()), h


def gradients(transfer: Transfer) -> dict[str, Tensor]:
    step, h = step_of(transfer)
    if h.shape[1] > 3:  # below a whole network there is no room for every pixel
        clear_of_kinks(transfer.top, h.numpy())
        step, _ = step_of(transfer)
    loss, found = step.gradients([e.value for e in step.entries], h, torch.arange(BATCH) % CLASSES)
    return {"loss": loss, **found}


def saved_bytes(transfer: Transfer) -> int:
    """What PyTorch really keeps from the forward to the backward pass, parameters not counted."""
    _, h = step_of(transfer)
    own = {p.data_ptr() for p in transfer.top.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        transfer.top.train()(h).sum()
    return sum(kept.values())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_policy_changes_no_number(method: Method) -> None:
    """At kinks the exact one-bit slope is 1 where PyTorch says 0: maps are clear of them, or else
    a few pixels of a whole network differ.
    """
    float32, one_bit = (gradients(prepared(method, saved)) for saved in (FLOAT32, ONE_BIT))
    assert float32.keys() == one_bit.keys()
    for name, expected in float32.items():
        error = (one_bit[name] - expected).norm() / expected.norm().clamp_min(1e-12)
        assert error <= 1e-6, (name, float(error))


@pytest.mark.parametrize("name", ["mobiletl", "ft-blocks", "ft-bias", "tinytl-b", "repnet"])
def test_one_bit_keeps_less(name: str) -> None:
    method = find_method(name)
    float32, one_bit = (saved_bytes(prepared(method, saved)) for saved in (FLOAT32, ONE_BIT))
    assert one_bit < 0.9 * float32


@pytest.mark.parametrize("name", ["mobiletl", pytest.param("ft-blocks", marks=pytest.mark.slow)])
def test_the_plan_of_the_exported_step_follows(name: str) -> None:
    peaks = []
    for saved in (FLOAT32, ONE_BIT, EIGHT_BIT):
        transfer = prepared(find_method(name), saved)
        step, h = step_of(transfer)
        _, channels, height, width = h.shape
        model = lower_train_step(step, (channels, height, width))
        plan = plan_graph(model)
        verify_plan(model, plan, BATCH, CLASSES)
        peaks.append(plan.peak(BATCH, CLASSES))
    assert peaks[2] < peaks[1] < peaks[0]


def test_the_account_follows() -> None:
    def stored(name: str, saved: Saved | None) -> int:
        it = account(find_backbone("mbv2"), find_method(name), 3, 10, 8, 224, saved)
        return it.stored_bytes

    assert stored("mobiletl", None) == stored("mobiletl", ONE_BIT) < stored("mobiletl", FLOAT32)
    assert stored("ft-blocks", None) == stored("ft-blocks", FLOAT32)
    assert stored("ft-blocks", ONE_BIT) < stored("ft-blocks", FLOAT32)
    for method in ("mobiletl", "ft-blocks"):
        assert stored(method, EIGHT_BIT) < 0.3 * stored(method, ONE_BIT)


def test_every_method_names_a_policy_and_tinytl_b_is_biases_at_one_bit() -> None:
    # Bytes are a choice, and no method's own.
    own = {row.name for row in SAVED} - {EIGHT_BIT.name}
    assert {method.saved.name for method in METHODS} == own
    biases, tinytl = find_method("ft-bias"), find_method("tinytl-b")
    one, other = gradients(prepared(biases, ONE_BIT)), gradients(prepared(tinytl, None))
    assert all(torch.equal(one[name], other[name]) for name in one)


class HalfReLU6(StandIn):
    """A third policy's only layer: it keeps its input in 16 bits."""

    stands_for = nn.ReLU6
    saved_bits = 16

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(x)


def test_a_third_row_is_one_file() -> None:
    """Accounts, steps, graphs and plans take it without a change of theirs."""
    half = Saved("half", "16 bits", {nn.ReLU6: HalfReLU6})
    transfer = prepared(find_method("ft-blocks"), half)
    assert any(isinstance(module, HalfReLU6) for module in transfer.top.modules())
    step, h = step_of(transfer)
    _, channels, height, width = h.shape
    model = lower_train_step(step, (channels, height, width))
    verify_plan(model, plan_graph(model), BATCH, CLASSES)
    stored = [
        account(find_backbone("mbv2"), find_method("ft-blocks"), 3, 10, 8, 224, saved).stored_bytes
        for saved in (half, FLOAT32)
    ]
    assert stored[0] != stored[1]


def test_policies_are_found_by_name() -> None:
    assert [find_saved(row.name) for row in SAVED] == list(SAVED)
    assert len({row.name for row in SAVED}) == len(SAVED)
    with pytest.raises(UnsupportedModel, match="expected one of: float32, one-bit, eight-bit"):
        find_saved("two-bits")


def test_a_stand_in_stands_for_one_type() -> None:
    for row in SAVED:
        for kind, make in row.stand_ins.items():
            assert make(kind()).stands_for is kind
    with pytest.raises(AssertionError):
        replace(ONE_BIT).stand_ins[nn.ReLU](nn.ReLU6())
