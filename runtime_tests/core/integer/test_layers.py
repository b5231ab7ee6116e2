"""Layers on bytes against the same written down in whole numbers, and against floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.backbones import find_backbone
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.integer import reference
from mobiletl.core.integer.chain import REACH
from mobiletl.core.integer.frozen import FrozenBlock
from mobiletl.core.integer.layers import Block, Head, RowNorm
from mobiletl.core.integer.operators import (
    CENTRE,
    CLAMPED_SCALE,
    KERNEL_STEPS,
    SIGNED_STEPS,
    TINIEST,
    TINIEST_KERNEL,
)
from mobiletl.core.integer.top import FrozenResidual, integer_top
from mobiletl.core.methods import find_method
from mobiletl.core.optimizers import Sgd
from mobiletl.core.step import TrainingStep
from runtime_tests.core.saved.test_policies import BATCH, prepared
from runtime_tests.support.networks import CLASSES, RESOLUTION

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = NDArray[np.float32]
CLAMPED, ONE = np.array(CLAMPED_SCALE, np.float32), np.array([1], np.float32)
# A scale and a shift in one rounding or in two.
ONE_ROUNDING = {"rtol": 2e-6, "atol": 1e-6}


def arguments(side: int, size: int) -> list[Tensor]:
    """x, kernels and shifts of a block of 8, 24 and 16 channels."""
    generator = torch.Generator().manual_seed(side)
    shapes = [(2, size, size, 8), (24, 8), (24,), (24, 1, side, side), (24,), (16, 24)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


def run(function: Any, tensors: list[Tensor], *numbers: int) -> tuple[Floats, Floats, list[Floats]]:
    """(y, the gradient it was given, gradients of all tensors)."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    y = function.apply(*leaves, *numbers)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    found = torch.autograd.grad(y, leaves, weights)
    return y.detach().numpy(), weights.numpy(), [f.numpy() for f in found]


@pytest.mark.parametrize(("side", "stride", "size"), [(3, 1, 7), (3, 2, 8), (5, 2, 7), (7, 1, 7)])
def test_a_block_is_the_sums_of_whole_numbers(  # noqa: PLR0915  read beside the layer, top down
    side: int, stride: int, size: int
) -> None:
    tensors = arguments(side, size)
    x, expand, expand_shift, filters, filter_shift, project = (t.numpy() for t in tensors)
    padding = side // 2
    y, grad, found = run(Block, tensors, stride, padding)

    pixels = x.reshape(-1, 8)
    left, left_scale = reference.centred_bytes(pixels)
    expand_kept, expand_scale = signed(expand, 0)
    a = reference.byte_product(left, left_scale, CENTRE, expand_kept.T, expand_scale, expand_shift)
    wide = reference.clamped_bytes(a).reshape(2, size, size, 24)
    flat = filters.reshape(24, -1)
    filter_kept, filter_scale = reference.signed_bytes(flat, 0, KERNEL_STEPS, TINIEST_KERNEL)
    filter_kept = filter_kept.reshape(filters.shape)
    filtered = reference.byte_depthwise(
        wide, 0, filter_kept, filter_scale, filter_shift / (filter_scale * CLAMPED), stride, padding
    )
    project_kept, project_scale = signed(project, 0)
    rows = filtered.reshape(-1, 24)
    expected = reference.byte_product(rows, CLAMPED, 0, project_kept.T, project_scale, None)
    np.testing.assert_allclose(y.reshape(-1, 16), expected, **ONE_ROUNDING)

    dx, d_expand, d_expand_shift, d_filters, d_filter_shift, d_project = found
    g = grad.reshape(-1, 16)
    right, right_scale = signed(g, 1)
    np.testing.assert_allclose(
        d_project.T, reference.byte_product(rows.T, CLAMPED, 0, right, right_scale, None),
        **ONE_ROUNDING,
    )  # fmt: skip
    left, left_scale = reference.centred_bytes(g * project_scale)
    back = reference.byte_product(left, left_scale, CENTRE, project_kept, ONE, None)
    kept, scale = reference.centred_bytes(back)
    kept = reference.masked_bytes(filtered, kept.reshape(filtered.shape))
    sums = reference.byte_sums(kept.reshape(-1, 24).T)
    np.testing.assert_allclose(d_filter_shift, sums * scale, **ONE_ROUNDING)
    sums = reference.byte_kernel_sums(wide, kept, side, stride, padding)
    np.testing.assert_allclose(
        d_filters.reshape(24, -1), sums * (scale * CLAMPED), rtol=1e-5, atol=1e-6
    )
    spread = np.full_like(wide, CENTRE)
    spread[:, ::stride, ::stride] = kept
    reach = np.abs(flat).sum(1) * np.float32(REACH)
    turned = filter_kept[:, :, ::-1, ::-1]
    through = reference.byte_depthwise(
        spread, CENTRE, turned, filter_scale / reach, None, 1, side - 1 - padding
    )
    kept = reference.masked_bytes(wide, through).reshape(-1, 24)
    unit = scale * reach
    np.testing.assert_allclose(
        d_expand_shift, reference.byte_sums(kept.T) * unit, rtol=1e-5, atol=1e-6
    )
    x_kept, x_scale = signed(pixels, 1)
    of_kernel = reference.byte_product(kept.T, ONE, CENTRE, x_kept, x_scale, None) * unit[:, None]
    np.testing.assert_allclose(d_expand, of_kernel, rtol=1e-5, atol=1e-6)
    right, common = reference.rescaled_bytes(expand_kept, expand_scale * reach)
    of_x = reference.byte_product(kept, scale, CENTRE, right, common, None)
    np.testing.assert_allclose(dx.reshape(-1, 8), of_x, **ONE_ROUNDING)


def signed(x: Floats, axis: int) -> tuple[NDArray[np.int8], Floats]:
    return reference.signed_bytes(x, axis, SIGNED_STEPS, TINIEST)


@pytest.mark.parametrize(("side", "stride", "size"), [(3, 1, 8), (3, 2, 8), (5, 2, 8)])
def test_a_frozen_block_is_near_that_of_floats(side: int, stride: int, size: int) -> None:
    """And rounds its kernels as a trained one does: forward both give the same."""
    x, expand, expand_shift, filters, filter_shift, project = arguments(side, size)
    layers = [
        nn.Conv2d(8, 24, 1),
        nn.Conv2d(24, 24, side, stride, side // 2, groups=24),
        nn.Conv2d(24, 16, 1, bias=False),
    ]
    kernels = (expand[:, :, None, None], filters, project[:, :, None, None])
    for layer, kernel in zip(layers, kernels, strict=True):
        layer.weight.data = kernel
    layers[0].bias.data, layers[1].bias.data = expand_shift, filter_shift  # type: ignore[union-attr]
    leaf = x.clone().requires_grad_()
    y = FrozenBlock(*layers)(leaf)
    trained = Block.apply(  # type: ignore[no-untyped-call]
        x, expand, expand_shift, filters, filter_shift, project, stride, side // 2
    )
    torch.testing.assert_close(y, trained)
    exact_leaf = x.clone().requires_grad_()
    exact = _floats(exact_leaf, expand, expand_shift, filters, filter_shift, project, stride=stride)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
    (found,) = torch.autograd.grad(y, leaf, grad)
    (wanted,) = torch.autograd.grad(exact, exact_leaf, grad)
    assert alike(found.numpy(), wanted.numpy()) > 0.95


@pytest.mark.parametrize(("side", "stride", "size"), [(3, 1, 7), (3, 2, 8), (5, 1, 7), (5, 2, 7)])
def test_a_block_is_near_that_of_floats(side: int, stride: int, size: int) -> None:
    """Within a few percent of autograd's, the slope of ReLU6 being 1 above 6 as well."""
    tensors = arguments(side, size)
    y, grad, found = run(Block, tensors, stride, side // 2)
    leaves = [t.clone().requires_grad_() for t in tensors]
    exact = _floats(*leaves, stride=stride)
    expected = torch.autograd.grad(exact, leaves, torch.from_numpy(grad))
    assert alike(y, exact.detach().numpy()) > 0.999
    for result, wanted in zip(found, expected, strict=True):
        assert alike(result, wanted.numpy()) > 0.95


def _floats(
    x: Tensor,
    expand: Tensor,
    expand_shift: Tensor,
    filters: Tensor,
    filter_shift: Tensor,
    project: Tensor,
    stride: int,
) -> Tensor:
    a = x @ expand.t() + expand_shift
    wide = _relu6(a).permute(0, 3, 1, 2)
    b = functional.conv2d(
        wide, filters, filter_shift, stride, filters.shape[2] // 2, 1, filters.shape[0]
    )
    return _relu6(b.permute(0, 2, 3, 1)) @ project.t()


def _relu6(a: Tensor) -> Tensor:
    """clamp(a, 0, 6), its slope 1[a > 0]."""
    passed = torch.relu(a)
    return passed + (passed.clamp(max=6.0) - passed).detach()


def alike(left: Floats, right: Floats) -> float:
    """The cosine of two tensors."""
    a, b = left.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_a_head_is_near_that_of_floats() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(s, generator=generator) for s in [(3, 4, 4, 8), (32, 8), (32,)]]
    y, grad, found = run(Head, tensors)
    leaves = [t.clone().requires_grad_() for t in tensors]
    x, kernel, shift = leaves
    exact = _relu6(x @ kernel.t() + shift).mean((1, 2))
    expected = torch.autograd.grad(exact, leaves, torch.from_numpy(grad))
    assert alike(y, exact.detach().numpy()) > 0.999
    for result, wanted in zip(found, expected, strict=True):
        assert alike(result, wanted.numpy()) > 0.98


def test_a_norm_over_rows_is_pytorchs() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(s, generator=generator) for s in [(30, 5), (5,), (5,)])
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    mean, var = torch.zeros(5), torch.ones(5)
    exact = functional.batch_norm(leaves[0], mean, var, leaves[1], leaves[2], True, 1.0, 1e-5)
    grad = torch.randn(exact.shape, generator=generator)
    expected = torch.autograd.grad(exact, leaves, grad)
    own = [t.clone().requires_grad_() for t in (x, weight, bias)]
    y, batch_mean, batch_variance = RowNorm.apply(*own, 1e-5)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(y, exact)
    torch.testing.assert_close(batch_mean, mean)
    torch.testing.assert_close(batch_variance * 30 / 29, var)
    torch.testing.assert_close(torch.autograd.grad(y, own, grad), expected, rtol=1e-4, atol=1e-5)


def steps() -> tuple[TrainingStep, TrainingStep, Tensor]:
    """The same top in floats and on bytes, and maps for both."""
    transfer = prepared(find_method("mobiletl"), None)
    images = torch.randn(
        BATCH, 3, RESOLUTION, RESOLUTION, generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        h = transfer.prefix(images)
    return TrainingStep(transfer.top, Sgd()), TrainingStep(integer_top(transfer), Sgd()), h


def test_both_steps_have_one_state_and_like_results() -> None:
    floats, on_bytes, h = steps()
    described = [(e.name, e.role, e.owner, e.per_class) for e in floats.entries]
    assert [(e.name, e.role, e.owner, e.per_class) for e in on_bytes.entries] == described
    state, labels = [e.value for e in floats.entries], torch.arange(BATCH) % CLASSES
    loss, gradients = floats.gradients(state, h, labels)
    found_loss, found = on_bytes.gradients(state, h, labels)
    assert found_loss.item() == pytest.approx(loss.item(), rel=0.02)
    assert all(alike(found[n].numpy(), g.numpy()) > 0.8 for n, g in gradients.items())
    rate = torch.tensor(1e-3)
    after, expected = (one.train(state, h, labels, rate) for one in (on_bytes, floats))
    for entry, new, old, wanted in zip(floats.entries, after[2:], state, expected[2:], strict=True):
        if entry.role == "statistic":  # a batch moves them, and no byte moves them far
            assert not torch.equal(new, old)
            torch.testing.assert_close(new, wanted, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("model", "method", "blocks", "reason"),
    [
        ("mbv2-0.1", "ft-blocks", 1, "features.17, which is Conv2d, BatchNorm2d, ReLU6"),
        ("mbv2-0.1", "ft-last", None, "any of the layers"),
        ("mbv2-0.1", "tinytl-l", None, "group norms beside the blocks"),
        ("mbv2-0.1", "repnet-bias", None, "features.0, a ShiftedSequential"),
        ("mbv2-0.1", "mobiletl", 17, "features.1, which is ShiftNormActivation, Conv2d"),
        ("mbv3-small", "mobiletl", 1, "SqueezeExcitation"),
    ],
)
def test_what_has_no_form_in_bytes_is_refused(
    model: str, method: str, blocks: int | None, reason: str
) -> None:
    transfer = find_method(method).prepare(find_backbone(model).build(3), blocks, resolution=64)
    with pytest.raises(UnsupportedModel, match=reason):
        integer_top(transfer)


def test_below_side_modules_frozen_blocks_are_on_bytes() -> None:
    """All but the first, which does not expand; the rest of the top is the very same modules."""
    transfer = prepared(find_method("repnet"), None)
    top = integer_top(transfer)
    kinds = {name: type(layer) for name, layer in top.features.items()}
    on_bytes = [name for name, kind in kinds.items() if kind is FrozenResidual]
    assert on_bytes == [str(number) for number in range(2, 18)]
    assert all(top.features[n] is transfer.top.features[n] for n in ("0", "1", "18"))
    assert top.side is transfer.top.side
    assert top.picture_side is transfer.top.picture_side


def test_another_activation_is_refused() -> None:
    transfer = prepared(find_method("mobiletl"), None)
    (row,) = [m for n, m in transfer.top.features["17"].named_modules() if n == "conv.0"]
    row.activation_type = nn.ReLU  # type: ignore[assignment]  # a plain attribute
    with pytest.raises(UnsupportedModel, match="whose activation is ReLU,"):
        integer_top(transfer)
