"""Mask operators against the NumPy reference, and what autograd and tracing make of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from mobiletl.core.layers import masks, masks_reference

Floats = NDArray[np.float32]
Activation = Callable[[Tensor], Tensor]
TracingMode = Literal["real", "fake", "symbolic"]

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=7)
# Any float32 at all: both zeros, subnormals, infinities and NaN come up.
VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)
ACTIVATIONS = [
    pytest.param(masks.masked_relu, torch.relu, id="relu"),
    pytest.param(masks.masked_relu6, lambda a: a.clamp(0.0, 6.0), id="relu6"),
    pytest.param(masks.masked_hardswish, torch.nn.functional.hardswish, id="hardswish"),
]
PACK = torch.ops.mobiletl.pack_mask.default
APPLY = torch.ops.mobiletl.apply_mask.default


@st.composite
def activation_and_gradient(draw: st.DrawFn) -> tuple[Floats, Floats]:
    shape = draw(SHAPES)
    arrays = hnp.arrays(np.float32, shape, elements=VALUES)
    return draw(arrays), draw(arrays)


def same_bits(actual: Tensor, expected: Floats) -> bool:
    """Equality of the bit patterns: tells -0.0 from 0.0 and one NaN from another."""
    found = actual.numpy()
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


@given(activation_and_gradient())
@settings(deadline=None)
def test_operators_equal_the_reference(pair: tuple[Floats, Floats]) -> None:
    a, grad = pair
    packed = masks.pack_mask(torch.from_numpy(a))
    assert packed.dtype == torch.uint8
    assert packed.numel() == math.ceil(a.size / 8)
    assert packed.numpy().tobytes() == masks_reference.pack_mask(a).tobytes()
    masked = masks.apply_mask(packed, torch.from_numpy(grad))
    assert same_bits(masked, masks_reference.apply_mask(packed.numpy(), grad))


@pytest.mark.parametrize(("activation", "exact"), ACTIVATIONS)
@given(pair=activation_and_gradient())
@settings(deadline=None)
def test_forward_is_exact_and_backward_is_the_masked_gradient(
    activation: Activation, exact: Activation, pair: tuple[Floats, Floats]
) -> None:
    a, grad = pair
    leaf = torch.from_numpy(a).requires_grad_()
    output = activation(leaf)
    (found,) = torch.autograd.grad(output, leaf, torch.from_numpy(grad))
    assert same_bits(output.detach(), exact(torch.from_numpy(a)).numpy())
    with np.errstate(invalid="ignore"):
        assert same_bits(found, grad * (a >= 0).astype(np.float32))


def test_finite_gradient_equals_the_product_with_the_indicator() -> None:
    a = torch.tensor([-1.0, -0.0, 0.0, 1.0, 7.0, -7.0])
    grad = torch.tensor([-0.5, -2.0, 3.0, -0.0, 5.0, 6.0])
    masked = masks.apply_mask(masks.pack_mask(a), grad)
    assert same_bits(masked, (grad * (a >= 0)).numpy())


def test_layout_is_eight_runs_of_ceil_n_eighths() -> None:
    a = torch.full((13,), -1.0)
    a[[0, 3, 12]] = 1.0
    # m = 2: element 0 is byte 0 bit 0, element 3 is byte 1 bit 1, element 12 is byte 0 bit 6.
    assert masks.pack_mask(a).tolist() == [0b0100_0001, 0b0000_0010]
    assert masks.pack_mask(torch.ones(13)).tolist() == [0b0111_1111, 0b0011_1111]


def test_pad_bits_are_zero_and_eighths_are_exact() -> None:
    assert masks.pack_mask(torch.ones(9)).tolist() == [0b0001_1111, 0b0000_1111]
    assert masks.pack_mask(torch.ones(2, 4, 8)).numel() == 64 // 8


def test_edges_of_the_comparison_and_of_the_gradient() -> None:
    a = torch.tensor([0.0, -0.0, math.nan, math.inf, -math.inf, -1e-45])
    assert masks.pack_mask(a).tolist() == [0b0000_1011]
    grad = torch.tensor([-0.0, math.nan, math.nan, -math.inf, math.inf, -1.0])
    masked = masks.apply_mask(masks.pack_mask(a), grad)
    assert math.copysign(1.0, masked[0]) == -1.0
    assert masked[1:].isnan().tolist() == [True, True, False, True, False]
    assert math.isinf(masked[3])
    assert same_bits(masked[5], np.float32(-0.0))


def test_layout_follows_the_shape_not_the_strides() -> None:
    a = torch.randn(2, 3, 4, 5)
    strided = a.to(memory_format=torch.channels_last)
    packed = masks.pack_mask(strided)
    assert torch.equal(packed, masks.pack_mask(a))
    assert torch.equal(masks.apply_mask(packed, strided), a.clamp(min=0.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gradient_keeps_its_type(dtype: torch.dtype) -> None:
    a = torch.randn(3, 5).to(dtype)
    masked = masks.apply_mask(masks.pack_mask(a), a)
    assert masked.dtype == dtype
    assert torch.equal(masked, a.clamp(min=0.0))


@pytest.mark.parametrize(
    "packed",
    [torch.zeros(2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int8)],
    ids=["size", "type"],
)
def test_foreign_mask_is_refused(packed: Tensor) -> None:
    with pytest.raises(ValueError, match=r"17 elements, expected torch.uint8\[3\]"):
        masks.apply_mask(packed, torch.zeros(17))


@pytest.mark.parametrize(("activation", "exact"), ACTIVATIONS)
def test_only_the_mask_is_saved(activation: Activation, exact: Activation) -> None:
    saved: list[Tensor] = []
    a = torch.randn(8, 12, 7, 7, requires_grad=True)

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = activation(a)
    assert [(tensor.dtype, tensor.untyped_storage().nbytes()) for tensor in saved] == [
        (torch.uint8, a.numel() // 8)
    ]
    assert torch.equal(output, exact(a))


def gradient_of(activation: Activation) -> Activation:
    """A function with a backward pass inside, as an exported training step has."""

    def gradient(a: Tensor) -> Tensor:
        leaf = a.detach().requires_grad_()
        return torch.autograd.grad((activation(leaf * 2.0) * 3.0).sum(), leaf)[0]

    return gradient


def calls(graph: GraphModule) -> list[object]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("tracing_mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize(
    "activation", [masks.masked_relu, masks.masked_relu6, masks.masked_hardswish]
)
def test_traced_step_holds_single_nodes(activation: Activation, tracing_mode: TracingMode) -> None:
    a = torch.randn(3, 5, 7)
    gradient = gradient_of(activation)
    traced = make_fx(gradient, tracing_mode=tracing_mode)(a)
    targets = calls(traced)
    assert targets.count(PACK) == 1
    assert targets.count(APPLY) == 1
    assert torch.ops.aten.ge.Scalar not in targets
    other = torch.randn(2, 3, 3) if tracing_mode == "symbolic" else torch.randn(3, 5, 7)
    assert torch.equal(traced(other), gradient(other))


def test_symbolic_batch_reaches_the_size_of_the_mask() -> None:
    traced = make_fx(gradient_of(masks.masked_relu6), tracing_mode="symbolic")(torch.randn(3, 5, 7))
    (packed,) = (node.meta["val"] for node in traced.graph.nodes if node.target == PACK)
    assert packed.dtype == torch.uint8
    assert isinstance(packed.shape[0], torch.SymInt)


@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (0, 4), ()])
def test_operators_keep_the_rules_of_custom_operators(shape: tuple[int, ...]) -> None:
    a = torch.randn(shape)
    torch.library.opcheck(PACK, (a,))
    torch.library.opcheck(APPLY, (masks.pack_mask(a), a))
