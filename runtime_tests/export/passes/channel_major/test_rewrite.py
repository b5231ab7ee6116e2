"""The step with maps stored as [C,N,H,W], against the step as traced and as PyTorch runs it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.optimizers import Adam, Sgd
from mobiletl.export.passes.channel_major.rewrite import RULES, channel_major
from mobiletl.export.passes.pipelines import run_passes
from mobiletl.export.tracing.trace import Input, trace
from runtime_tests.support.networks import (
    count,
    feature_shape,
    run_eager,
    run_traced,
    small_step,
    step_arguments,
    trace_step,
)

aten = torch.ops.aten
# float32; sums over N, H, W and over channels in another order, through up to 7 layers.
STEP = {"rtol": 1e-4, "atol": 2e-5}
GONE = (
    aten.convolution_backward.default,
    aten._native_batch_norm_legit.default,
    aten.native_batch_norm_backward.default,
)


@pytest.mark.parametrize(
    ("method", "norms"), [("mobiletl", 1), pytest.param("ft-blocks", 4, marks=pytest.mark.slow)]
)
def test_fires_on_every_convolution_and_norm(method: str, norms: int) -> None:
    graph = trace_step(small_step(method, 1), feature_shape(1))
    assert [count(graph, target) for target in GONE] == [4, norms, norms]
    after = channel_major(graph)
    assert [count(after, target) for target in GONE] == [0, 0, 0]
    # The map is 2 x 2 pixels, so the depthwise convolution goes through bands too.
    assert count(after, aten.convolution.default) == 0
    # Three kernel rows forward, for the input and for the kernel.
    assert count(after, aten.bmm.default) == 9
    # Three products each for the project and the head convolution and the classifier, two for the
    # expand one, whose input gradient nobody wants; kernel rows are spread to bands twice, and
    # columns collected from them three times.
    products = count(after, aten.mm.default) + count(after, aten.addmm.default)
    assert products == 3 * 3 + 2 + 2 + 3


@pytest.mark.parametrize(
    ("method", "freeze", "optimizer"),
    [
        ("mobiletl", "features.17.conv.0.0.weight", Sgd()),
        ("ft-blocks", "features.17.conv.1.0.weight", Sgd()),
        pytest.param("mobiletl", "", Adam(epsilon=1e-3), marks=pytest.mark.slow),
    ],
    ids=["mobiletl", "ft-blocks", "adam"],
)
def test_every_number_of_the_step_stays(method: str, freeze: str, optimizer: Sgd | Adam) -> None:
    """Loss, statistics, parameters, and the slots, which hold the gradients."""
    step = small_step(method, 1, optimizer, freeze)
    shape = feature_shape(1)
    arguments = step_arguments(step, shape, batch=5)
    found = run_traced(run_passes(trace_step(step, shape)), arguments)
    expected = run_eager(step, arguments)
    assert freeze + ".next" not in found
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **STEP, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.slow
def test_strided_and_residual_blocks_keep_their_numbers() -> None:
    """The top four blocks hold one of each kind; at 64 px the strided one sees 4 x 4 pixels."""
    step = small_step("ft-blocks", 4)
    shape = feature_shape(4)
    arguments = step_arguments(step, shape, batch=6)
    graph = channel_major(trace_step(step, shape))
    assert count(graph, aten.convolution.default) == 3  # forward, input's and kernel's gradient
    found, expected = run_traced(graph, arguments), run_eager(step, arguments)
    torch.testing.assert_close(found["loss"], expected["loss"], **STEP)
    for name, value in expected.items():
        # Ten norms over 24 values each multiply rounding.
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-4, msg=name)


def test_operator_without_a_rule_sees_the_map_as_it_means_it() -> None:
    def function(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        y = functional.conv2d(x, weight)
        return torch.cumsum(y, dim=1), torch.sum(y, dim=3), y

    assert aten.cumsum.default not in RULES
    inputs = [Input("x", ("N", 3, 4, 5)), Input("weight", (2, 3, 1, 1))]
    graph = channel_major(trace(function, inputs, ["a", "b", "c"]))
    x, weight = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 1, 1)
    for found, expected in zip(
        run_traced(graph, [x, weight]).values(), function(x, weight), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dilation": 2}, r"dilation \[2, 2\]"),
        ({"stride": (1, 2)}, r"stride \[1, 2\]"),
        ({"padding": (0, 1)}, r"padding \[0, 1\]"),
    ],
)
def test_convolution_of_no_such_block_is_named(options: dict[str, object], text: str) -> None:
    def function(x: Tensor, weight: Tensor) -> tuple[Tensor]:
        return (functional.conv2d(x, weight, groups=3, **options),)  # type: ignore[arg-type]

    graph = trace(function, [Input("x", ("N", 3, 8, 8)), Input("weight", (3, 1, 3, 3))], ["y"])
    with pytest.raises(UnsupportedModel, match=text):
        channel_major(graph)
