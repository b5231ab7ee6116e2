"""Operators on bytes: PyTorch, and ONNX on onnxruntime, against whole numbers in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnxscript import ir

from mobiletl.core.integer import operators, reference
from mobiletl.core.integer.operators import (
    CENTRE,
    CLAMPED_SCALE,
    KERNEL_STEPS,
    SIGNED_STEPS,
    TINIEST,
    TINIEST_KERNEL,
)
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.lowering.onnx.rules import integer
from mobiletl.export.tracing.trace import Input, trace

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = NDArray[np.float32]
MATRICES = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False) | st.sampled_from([0.0, -0.0]),
)
RNG = np.random.default_rng(0)
OPS: Any = torch.ops.mobiletl


def floats(*shape: int) -> Floats:
    return RNG.normal(size=shape).astype(np.float32)


def unsigned(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def signed(*shape: int, most: int = SIGNED_STEPS) -> NDArray[np.int8]:
    return RNG.integers(-most, most + 1, shape, dtype=np.int8)


@given(x=MATRICES)
@settings(deadline=None, max_examples=50)
def test_pytorch_rounds_as_the_reference_does(x: Floats) -> None:
    given_ = torch.from_numpy(x)
    _equal(operators.centred_bytes(given_), reference.centred_bytes(x))
    _equal((operators.clamped_bytes(given_),), (reference.clamped_bytes(x),))
    for axis in (0, 1):
        found = operators.signed_bytes(given_, axis, SIGNED_STEPS, TINIEST)
        _equal(found, reference.signed_bytes(x, axis, SIGNED_STEPS, TINIEST))


@given(x=MATRICES)
@settings(deadline=None, max_examples=50)
def test_nothing_moves_by_more_than_half_a_step(x: Floats) -> None:
    kept, scale = operators.centred_bytes(torch.from_numpy(x))
    back = (kept.double() - CENTRE) * scale.double()
    assert bool(((back - torch.from_numpy(x).double()).abs() <= 0.5001 * scale.double()).all())


def _equal(found: Any, expected: Any) -> None:
    for tensor, array in zip(found, expected, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array)


# Operator, its tensors with the picture axis first named N where there is one, its numbers.
N = 3
ONE = np.array(1.0, np.float32)
CLAMPED = np.array(CLAMPED_SCALE, np.float32)


def _depthwise(side: int, stride: int, size: int, centre: int) -> tuple[Any, ...]:
    """Scales at which few bytes are limited, and some are."""
    factor = np.abs(floats(8)) * np.float32(1e-3) + np.float32(1e-4)
    shift = None if centre else floats(8) / factor / np.float32(CLAMPED_SCALE)
    kernel = signed(8, 1, side, side, most=KERNEL_STEPS)
    return (unsigned(N, size, size, 8), centre, kernel, factor, shift, stride, side // 2)


CASES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "centred": ("centred_bytes", (floats(N, 5, 7),)),
    "rows": ("signed_bytes", (floats(12, 7), 0, KERNEL_STEPS, TINIEST_KERNEL)),
    "columns": ("signed_bytes", (floats(N, 7), 1, SIGNED_STEPS, TINIEST)),
    "rescaled": ("rescaled_bytes", (signed(12, 7), np.abs(floats(12)) + np.float32(0.1))),
    "clamped": ("clamped_bytes", (3 * floats(N, 9),)),
    "product": (
        "byte_product",
        (unsigned(N, 40), np.array(ONE / 3), CENTRE, signed(40, 8), ONE[None], None),
    ),
    "product with shift": (
        "byte_product",
        (unsigned(N, 40), CLAMPED, 0, signed(40, 8), np.abs(floats(8)), floats(8)),
    ),
    "3x3": ("byte_depthwise", _depthwise(3, 1, 7, 0)),
    "5x5, stride 2": ("byte_depthwise", _depthwise(5, 2, 8, 0)),
    "3x3 of a gradient": ("byte_depthwise", _depthwise(3, 1, 7, CENTRE)),
    "kernel 3x3": ("byte_kernel_sums", (unsigned(N, 7, 7, 8), unsigned(N, 7, 7, 8), 3, 1, 1)),
    "kernel 5x5, stride 2": (
        "byte_kernel_sums",
        (unsigned(N, 9, 9, 8), unsigned(N, 5, 5, 8), 5, 2, 2),
    ),
    "mask": ("masked_bytes", (unsigned(N, 4, 8) // 128, unsigned(N, 4, 8))),
    "mask of a mean": ("masked_bytes", (unsigned(N, 4, 8) // 128, unsigned(N, 1, 8))),
    "sums": ("byte_sums", (unsigned(8, N),)),
    "bits": ("pack_bits", (unsigned(N, 4, 8) // 128,)),
    "masked by bits": ("masked_by_bits", (unsigned(4), unsigned(4, 8))),
}
BATCHED_SECOND = {"sums"}


@pytest.mark.parametrize("case", CASES)
def test_pytorch_and_onnxruntime_give_the_whole_numbers_of_the_reference(case: str) -> None:
    name, arguments = CASES[case]
    expected = getattr(reference, name)(*arguments)
    expected = expected if isinstance(expected, tuple) else (expected,)
    operator: Callable[..., Any] = getattr(OPS, name).default
    tensors = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
    found = operator(*tensors)
    _equal(found if isinstance(found, tuple) else (found,), expected)
    for result, wanted in zip(_on_onnxruntime(case, operator, arguments), expected, strict=True):
        if wanted.dtype == np.float32 and name == "byte_product":
            # The scale is multiplied and the shift added in one rounding or in two.
            np.testing.assert_allclose(result, wanted, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(result, wanted)


def test_cases_cover_every_rule() -> None:
    assert {getattr(OPS, name).default for name, _ in CASES.values()} == integer.RULES.keys()


def _on_onnxruntime(
    case: str, operator: Callable[..., Any], arguments: tuple[Any, ...]
) -> list[NDArray[Any]]:
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    places = [i for i, a in enumerate(arguments) if isinstance(a, np.ndarray)]

    def run(*given_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = list(arguments)
        for place, tensor in zip(places, given_, strict=True):
            values[place] = tensor
        result = operator(*values)
        return result if isinstance(result, tuple) else (result,)

    inputs = [
        Input(f"x{index}", _shape(case, array), torch.from_numpy(array).dtype)
        for index, array in enumerate(arrays)
    ]
    outputs = [f"y{index}" for index in range(len(run(*map(torch.from_numpy, arrays))))]
    proto = ir.to_proto(lower_to_onnx(trace(run, inputs, outputs), "operator"))
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {f"x{index}": array for index, array in enumerate(arrays)}
    results: list[NDArray[Any]] = session.run(outputs, feeds)
    return results


def _shape(case: str, array: NDArray[Any]) -> tuple[int | str, ...]:
    """Sizes of N are dynamic."""
    axis = 1 if case in BATCHED_SECOND else 0
    return tuple(
        "N" if place == axis and size == N else size for place, size in enumerate(array.shape)
    )


def test_a_right_operand_is_short_enough_for_sums_of_two_products_in_16_bits() -> None:
    """What x86-64 without VNNI adds up before it widens."""
    assert 2 * 255 * SIGNED_STEPS < 1 << 15
