"""The layers of MobileTL against the convolution, norm and activation they replace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import ConvNormActivation
from mobiletl.core.layers.masks import masked_relu6
from mobiletl.core.layers.positive_slope import POSITIVE
from mobiletl.core.layers.shift_norm import ShiftNormActivation, ShiftOnlyNorm
from runtime_tests.support.networks import unsettle

# Multiplying the scale into the kernel rounds in another place than multiplying the result.
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 2e-5},
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
}
LAYERS: dict[str, dict[str, int]] = {
    "expand": {"in_channels": 5, "out_channels": 12, "kernel": 1, "stride": 1, "groups": 1},
    "depthwise": {"in_channels": 8, "out_channels": 8, "kernel": 3, "stride": 1, "groups": 8},
    "strided": {"in_channels": 8, "out_channels": 8, "kernel": 5, "stride": 2, "groups": 8},
}
TYPES = list(TOLERANCE)


def original(layer: str, dtype: torch.dtype) -> ConvNormActivation:
    torch.manual_seed(1)
    block = ConvNormActivation(**LAYERS[layer])
    unsettle(block)
    return block.to(dtype).eval()


def pictures(layer: str, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(3, LAYERS[layer]["in_channels"], 7, 9, generator=generator, dtype=dtype) * 8


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_forward_is_conv_norm_relu6(layer: str, dtype: torch.dtype) -> None:
    block, x = original(layer, dtype), pictures(layer, dtype)
    expected = block(x)
    assert (expected == 6).any(), "no activation is saturated"
    torch.testing.assert_close(ShiftNormActivation(block)(x), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("layer", LAYERS)
def test_gradient_is_that_of_the_unfolded_layers(layer: str, dtype: torch.dtype) -> None:
    """With the mask's backward for ReLU6, of: input, kernel, shift."""
    block, x = original(layer, dtype), pictures(layer, dtype).requires_grad_()
    conv, norm, _ = block
    unfolded = masked_relu6(norm(conv(x)))
    grad = torch.randn(unfolded.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    expected = torch.autograd.grad(unfolded, [x, conv.weight, norm.bias], grad)
    folded = ShiftNormActivation(block)
    kernel, shift = folded.get_parameter("0.weight"), folded.get_parameter("1.bias")
    found = torch.autograd.grad(folded(x), [x, kernel, shift], grad)
    tolerance = {**TOLERANCE[dtype], "atol": 20 * TOLERANCE[dtype]["atol"]}  # sums of 189 terms
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


def test_saturated_activations_pass_their_gradient() -> None:
    """What sets MobileTL apart from ReLU6: nothing is cut off above 6."""
    block = original("expand", torch.float32)
    with torch.no_grad():
        block[1].bias.fill_(100.0)
    x = pictures("expand", torch.float32).requires_grad_()
    (exact,) = torch.autograd.grad(block(x).sum(), x)
    (masked,) = torch.autograd.grad(ShiftNormActivation(block)(x).sum(), x)
    assert not exact.any()
    assert masked.any()


def test_norm_alone() -> None:
    norm = nn.BatchNorm2d(4)
    unsettle(norm)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(ShiftOnlyNorm(norm)(x), norm.eval()(x), **TOLERANCE[torch.float32])


def test_only_the_shift_is_a_parameter_and_keys_stay() -> None:
    norm = nn.BatchNorm2d(4)
    ours = ShiftOnlyNorm(norm)
    assert [name for name, _ in ours.named_parameters()] == ["bias"]
    assert ours.state_dict().keys() == norm.state_dict().keys() - {"num_batches_tracked"}


def test_layer_owns_its_norm() -> None:
    norm = nn.BatchNorm2d(4)
    ours = ShiftOnlyNorm(norm)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, *norm.buffers()):
            tensor.fill_(9)
    assert all((tensor != 9).all() for tensor in ours.state_dict().values())


def test_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to freeze"):
        ShiftOnlyNorm(nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize("activation", POSITIVE, ids=lambda activation: activation.__name__)
def test_every_activation_keeps_its_values_and_takes_the_mask(activation: type[nn.Module]) -> None:
    torch.manual_seed(1)
    block = ConvNormActivation(**LAYERS["depthwise"], activation=activation)
    unsettle(block)
    x = pictures("depthwise", torch.float64)
    exact, conv, norm = block.double().eval(), block[0], block[1]
    assert isinstance(norm, nn.BatchNorm2d)
    masked = ShiftNormActivation(exact)
    torch.testing.assert_close(masked(x), exact(x), **TOLERANCE[torch.float64])
    (slopes,) = torch.autograd.grad(masked(x).sum(), masked.get_parameter("1.bias"))
    passed = (norm(conv(x)) >= 0).sum((0, 2, 3)).double()
    torch.testing.assert_close(slopes, passed, **TOLERANCE[torch.float64])


def test_activation_without_a_mask_is_refused() -> None:
    block = ConvNormActivation(**LAYERS["expand"], activation=nn.Sigmoid)
    with pytest.raises(TypeError, match=r"activation \(ReLU, ReLU6, Hardswish\)"):
        ShiftNormActivation(block)


@pytest.mark.parametrize("first", [nn.Identity(), nn.Linear(3, 3)])
def test_block_of_other_layers_is_refused(first: Any) -> None:
    block = original("expand", torch.float32)
    block[0] = first
    with pytest.raises(TypeError, match="convolution, batch norm and activation"):
        ShiftNormActivation(block)
