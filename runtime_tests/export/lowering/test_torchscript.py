"""The TorchScript programs: what is in them, and that they train as PyTorch's own autograd does.

Sessions are compared in runtime_tests/device/sessions/test_torchscript.py.
"""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.masks import apply_mask, pack_mask
from mobiletl.core.optimizers import find_optimizer
from mobiletl.core.step import TrainingStep
from mobiletl.export.lowering.torchscript.program import lower_to_torchscript
from mobiletl.export.passes.rematerialise import rematerialise_kernels
from mobiletl.export.passes.shrink_expand import shrink_expand
from mobiletl.export.tracing.functions import trace_features, trace_train_step
from mobiletl.export.tracing.trace import Input, trace
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.exported_bundles import Case, invented_pictures

# ||a - b|| / ||b|| after one step, the bar of the parity matrix.
TOLERANCE = 1e-5
CLASSES = 7
MOBILETL = Case("mobiletl", 2)
LAST = Case("ft-last", None)
CASES = [MOBILETL, Case("ft-blocks", 2), LAST, Case("mobiletl", 1, "adam")]


def load(content: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load", DeprecationWarning)
        return torch.jit.load(io.BytesIO(content))


def step_of(case: Case) -> TrainingStep:
    return TrainingStep(case.transfer(CLASSES).top, find_optimizer(case.optimizer))


def features_of(case: Case, count: int) -> Tensor:
    with torch.no_grad():
        h: Tensor = case.transfer(CLASSES).prefix(
            torch.from_numpy(invented_pictures(count, case.resolution))
        )
    return h


def program_of(step: TrainingStep, h: Tensor) -> bytes:
    _, channels, height, width = h.shape
    traced = trace_train_step(step, (channels, height, width))
    return lower_to_torchscript(rematerialise_kernels(shrink_expand(traced)), step.entries)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_step_equals_autograd_in_every_tensor(case: Case) -> None:
    step = step_of(case)
    h = features_of(case, 6)
    program = load(program_of(step, h))
    for count in (6, 3):  # one program serves any N
        state = [entry.value.clone() for entry in step.entries]
        labels, lr = torch.arange(count) % CLASSES, torch.tensor(0.01)
        loss, correct, *wanted = step.train(state, h[:count], labels, lr)
        found_loss, found_correct, same = program(state, h[:count], labels, lr)
        assert found_loss.item() == pytest.approx(loss.item(), rel=TOLERANCE)
        assert found_correct.item() == correct.item()
        for entry, tensor, returned, new in zip(step.entries, state, same, wanted, strict=True):
            assert returned.data_ptr() == tensor.data_ptr(), (
                f"{entry.name} was not updated in place"
            )
            assert relative_error(tensor, new) <= TOLERANCE, entry.name


def test_frozen_layers_take_any_number_of_pictures() -> None:
    transfer = MOBILETL.transfer(CLASSES)
    program = load(lower_to_torchscript(trace_features(transfer, 64)))
    for count in (1, 4):
        images = torch.from_numpy(invented_pictures(count, 64))
        with torch.no_grad():
            assert relative_error(program(images), transfer.prefix(images)) <= TOLERANCE


@pytest.mark.parametrize("shape", [(8,), (1, 8, 1, 1), (3, 16, 5, 7)])
def test_mask_functions_are_the_custom_operators(shape: Sequence[int]) -> None:
    """Bit for bit, edges included; the programs carry them as methods."""
    program = load(program_of(step_of(MOBILETL), features_of(MOBILETL, 2)))
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(*shape, generator=generator)
    a.view(-1)[:4] = torch.tensor([0.0, -0.0, float("nan"), float("-inf")])
    grad = torch.randn(*shape, generator=generator)
    grad.view(-1)[3] = float("inf")
    packed = program.pack_mask(a)
    assert packed.dtype == torch.uint8
    assert packed.nbytes * 8 == a.numel()
    assert torch.equal(packed, pack_mask(a))
    wanted = apply_mask(packed, grad).numpy().tobytes()
    before = grad.clone()
    assert program.apply_mask(packed, grad).numpy().tobytes() == wanted
    assert torch.equal(grad, before)
    assert program.apply_mask_(packed, grad).data_ptr() == grad.data_ptr()
    assert grad.numpy().tobytes() == wanted


@pytest.mark.slow
def test_only_masked_steps_hold_masks_and_no_activation_waits_for_its_backward() -> None:
    masked = load(program_of(step_of(MOBILETL), features_of(MOBILETL, 2))).code
    exact = load(program_of(step_of(CASES[1]), features_of(CASES[1], 2))).code
    inner_norms = 2 * 2 + 1
    assert masked.count("(self).pack_mask(") == inner_norms
    assert masked.count("(self).apply_mask") == inner_norms
    assert "hardtanh_backward" not in masked
    assert "(self).pack_mask(" not in exact
    assert exact.count("torch.hardtanh_backward(") == inner_norms


def test_updates_come_before_the_next_gradient() -> None:
    """Otherwise all gradients are alive at once."""
    lines = load(program_of(step_of(MOBILETL), features_of(MOBILETL, 2))).code.splitlines()
    gradients = [i for i, line in enumerate(lines) if "torch.convolution_backward(" in line]
    stores = [i for i, line in enumerate(lines) if "torch.copy_(" in line]
    for first, second in pairwise(gradients):
        assert any(first < store < second for store in stores)


@pytest.mark.slow
def test_same_program_same_bytes() -> None:
    """Bundles of the same export have the same id. (Within a process `torch.jit` numbers types.)"""
    script = (
        "import hashlib, warnings; warnings.simplefilter('ignore'); "
        "from runtime_tests.export.lowering.test_torchscript import *; "
        "print(hashlib.sha256(program_of(step_of(LAST), features_of(LAST, 2))).hexdigest())"
    )
    line = [sys.executable, "-c", script]
    runs = [subprocess.check_output(line, text=True, cwd=REPOSITORY) for _ in range(2)]
    assert len(runs[0].strip()) == 64
    assert runs[0] == runs[1]


def test_nothing_of_ours_is_needed_to_load(tmp_path: Path) -> None:
    path = tmp_path / "train_step.ts"
    path.write_bytes(program_of(step_of(MOBILETL), features_of(MOBILETL, 2)))
    script = (
        "import sys, torch; m = torch.jit.load(sys.argv[1]); "
        "assert not any(name.startswith('mobiletl') for name in sys.modules); "
        "assert 'mobiletl::' not in str(m.inlined_graph); print('loaded')"
    )
    line = [sys.executable, "-W", "ignore", "-c", script, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "loaded\n", done.stderr


def test_operator_without_a_rule_is_named_with_its_module() -> None:
    def function(weight: Tensor, h: Tensor) -> Sequence[Tensor]:
        return (torch.erfinv(h * weight),)

    inputs = [Input("features.3.conv.weight", (4,)), Input("h", ("N", 4))]
    traced = trace(function, inputs, ["logits"])
    entries = [replace(step_of(MOBILETL).entries[0], name="features.3.conv.weight")]
    message = r"aten\.erfinv\.default of features\.3\.conv has no TorchScript translation"
    with pytest.raises(UnsupportedModel, match=message):
        lower_to_torchscript(traced, entries)


def test_odd_masks_are_refused() -> None:
    traced = trace(lambda a: (pack_mask(a),), [Input("h", ("N", 3, 5))], ["packed"])
    with pytest.raises(UnsupportedModel, match="15 elements per picture"):
        lower_to_torchscript(traced)


def test_a_value_that_is_read_again_is_not_written_over() -> None:
    """clamp_ is only for the last reader of a convolution's result."""

    def function(weight: Tensor, x: Tensor) -> Sequence[Tensor]:
        y = torch.nn.functional.conv2d(x, weight)
        return (y.clamp(0.0, 1.0) + y,)

    inputs = [Input("w", (4, 4, 1, 1)), Input("h", ("N", 4, 3, 3))]
    program = load(lower_to_torchscript(trace(function, inputs, ["y"])))
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 4, 1, 1, generator=generator)
    x = torch.randn(2, 4, 3, 3, generator=generator)
    np.testing.assert_allclose(program(weight, x), function(weight, x)[0], atol=1e-6, rtol=0)
