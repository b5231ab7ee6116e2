"""Every rule against PyTorch, in onnxruntime and in ONNX's own reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnxscript import ir
from torch import Tensor
from torch.nn import functional

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers import bytes as maps_in_bytes
from mobiletl.core.layers import masks, masks_reference
from mobiletl.export.lowering.onnx.builder import OPSET
from mobiletl.export.lowering.onnx.model import lower_to_onnx
from mobiletl.export.lowering.onnx.rules import RULES, integer
from mobiletl.export.tracing.trace import Input, Traced, trace

aten = torch.ops.aten
Array = NDArray[np.generic]
# float32: another library's exp, sqrt, convolution and order of sums.
TOLERANCE = {"rtol": 2e-6, "atol": 2e-6}
N, K = 4, 7  # not what is traced with, so a size taken as a constant shows


@dataclass(frozen=True)
class Example:
    """A function of tensors that uses the operators of one rule or few."""

    function: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: Sequence[Input] = field(default=(Input("x", ("N", 3)),))


def f32(*shapes: tuple[int | str, ...]) -> tuple[Input, ...]:
    return tuple(Input(name, shape) for name, shape in zip("xyzuv", shapes, strict=False))


MAP = f32(("N", 3, 6, 5))
PAIR = f32(("N", 3), ("N", 3))
INTEGERS = (Input("x", ("N", "K"), torch.int64),)


def label_pairs(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return (x == y).to(torch.float32), (x == y).sum()


def softmax_backward(x: Tensor, y: Tensor) -> Tensor:
    log_probabilities = functional.log_softmax(x, 1)
    result: Tensor = aten._log_softmax_backward_data(y, log_probabilities, 1, torch.float32)
    return result


def norm(x: Tensor, y: Tensor, z: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """In inference mode, as a prediction has it."""
    return functional.batch_norm(x, u, v * v + 1, y, z, eps=1e-3)


def mask(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    packed = masks.pack_mask(x)
    return packed, masks.apply_mask(packed, y)


def eight_bits(x: Tensor) -> tuple[Tensor, ...]:
    kept, scale, zero = maps_in_bytes.pack_bytes(x, 1)
    return kept, scale, zero, maps_in_bytes.unpack_bytes(kept, scale, zero, 1)


def convolutions(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """Dense with a bias, and one kernel to a channel: plain, dilated, transposed."""
    dense = functional.conv2d(x, y, z, 2, 1)
    single = y[:3, :1]
    dilated = functional.conv2d(x, single, None, 1, 1, 2, 3)
    return dense, dilated, functional.conv_transpose2d(x, single, None, 2, 1, 1, 3)


def extremes(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return torch.minimum(x, y), torch.maximum(x, y), x.abs(), torch.sgn(x), torch.exp(x)


def powers(x: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.pow(x.abs() + 1, exponent) for exponent in (1, 2, 3, 0.5))


def slices(x: Tensor) -> tuple[Tensor, ...]:
    return x[:, 1:3], x[:, :, -2:], x[:, :, ::2], aten.alias(x) + 1


def variances(x: Tensor) -> tuple[Tensor, ...]:
    return x.var((1, 2, 3)), torch.var(x, [2, 3], correction=0, keepdim=True)


def group_norms(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    return functional.group_norm(x, 2, y, z), functional.group_norm(x, 1)


def pools(x: Tensor) -> tuple[Tensor, ...]:
    """Halves, the last window kept, windows over the padding with and without it."""
    return (
        functional.avg_pool2d(x, 2),
        functional.avg_pool2d(x, 2, 2, ceil_mode=True),
        functional.avg_pool2d(x, 3, 2, 1),
        functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    )


def activations(x: Tensor) -> tuple[Tensor, ...]:
    return functional.relu(x), functional.hardsigmoid(x * 4), functional.hardswish(x * 4)


def slopes(a: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    relu = aten.threshold_backward(grad, a, 0)
    return relu, aten.hardsigmoid_backward(grad, a), aten.hardswish_backward(grad, a)


def slopes_at_the_kinks(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return slopes(x * 0 + torch.tensor([-3.0, 0.0, 3.0]), y)


def expansions(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Read by products, of which only some reach that size by themselves, and as a result."""
    size = (y.shape[0], 3)
    return y * x.expand(size), x.expand(size), x.expand(size) * 2, x.expand(size) * x.expand(size)


def pads(x: Tensor) -> tuple[Tensor, ...]:
    whole = functional.pad(x.to(torch.uint8), (0, 1), value=128)
    return functional.pad(x, (1, 0, 2, 1)), functional.pad(x, (0, 0, 1, 1), value=2.0), whole


def orders(x: Tensor) -> tuple[Tensor, ...]:
    return x.permute(1, 0, 3, 2).contiguous(), x.transpose(0, 1).contiguous()


def class_numbers(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.int64).cumsum(1)


LABELS = (*INTEGERS, Input("y", ("N", 1), torch.int64))
LOGITS = f32(("N", "K"))
MASKED = f32(("N", 3, 8), ("N", 3, 8))
EXAMPLES = {
    "arithmetic": Example(lambda x, y: (x + y, x - y, x * y, x / (y + 9), -x), PAIR),
    "numbers": Example(lambda x: (x + 2, x - 0.5, x * 3, x / 4, aten.div.Scalar(x, 4.0))),
    "scalar tensor": Example(lambda x, y: x * y, f32(("N", 3, 1, 1), ())),
    "sizes": Example(lambda x: (x / x.shape[0], x * (x.shape[0] + 1), x / x.numel())),
    "roots": Example(lambda x: (torch.sqrt(x * x + 1), torch.rsqrt(x * x + 1))),
    "more numbers": Example(
        lambda x: (3 - x, aten.mul.Scalar(x, 2.0), aten.rsub.Scalar(x, 2), 1 / (x * x + 1))
    ),
    "extremes": Example(extremes, PAIR),
    "powers": Example(powers),
    "sigmoid": Example(lambda x, y: (s := torch.sigmoid(x), aten.sigmoid_backward(y, s)), PAIR),
    "label pairs": Example(label_pairs, LABELS),
    "clamp": Example(lambda x: (x.clamp(0.0, 1.0), functional.relu6(x * 6))),
    "relu6 backward": Example(lambda x, y: aten.hardtanh_backward(y, x * 6, 0.0, 6.0), PAIR),
    "activations": Example(activations),
    "slopes": Example(lambda x, y: slopes(x * 4, y), PAIR),
    "slopes at the kinks": Example(slopes_at_the_kinks, PAIR),
    "sums": Example(lambda x: (x.sum(dim=(1, 3)), x.sum(dim=(2,), keepdim=True), x.sum()), MAP),
    "greatest": Example(lambda x: (torch.amax(x), torch.amax(x, (1, 2))), MAP),
    "turned": Example(lambda x: (x.flip(3), x.flip((2, 3))), MAP),
    "means": Example(lambda x: (x.mean(dim=(2, 3)), x.mean()), MAP),
    "view": Example(lambda x: (x.view(-1, 5), x.view(x.shape[0], -1)), MAP),
    "view of two sizes": Example(lambda x: x.view(x.shape[1], x.shape[0]), LOGITS),
    "unsafe view": Example(lambda x: aten._unsafe_view(x * 1, [x.shape[0], 90]), MAP),
    "expand": Example(expansions, f32((1, 3), ("N", 3))),
    "unsqueeze": Example(lambda x: x.unsqueeze(1)),
    "permute": Example(orders, MAP),
    "t": Example(lambda x: x.t() + 1),
    "products": Example(lambda x, y: (x @ y.t(), x.t() @ y, x.t() @ y.t().t()), PAIR),
    "product with bias": Example(
        lambda x, y, z: torch.addmm(z, x, y.t()), f32(("N", 3), ("K", 3), ("K",))
    ),
    "t with other readers": Example(lambda x: ((t := x.t()) @ x, t + 1)),
    "batched product": Example(torch.bmm, f32((2, "N", 3), (2, 3, 4))),
    "slice": Example(slices, MAP),
    "select": Example(lambda x: x[:, 1], MAP),
    "pad": Example(pads, MAP),
    "stack": Example(lambda x, y: (torch.stack([x, y], 1), torch.stack([x, y])), PAIR),
    "cat": Example(lambda x, y: (torch.cat([x, y], 1), torch.cat([x, y])), PAIR),
    "resize": Example(
        lambda x: functional.interpolate(x, size=(4, 9), mode="bilinear", align_corners=False), MAP
    ),
    "variances": Example(variances, MAP),
    "group norms": Example(group_norms, f32(("N", 4, 6, 5), (4,), (4,))),
    "average pools": Example(pools, f32(("N", 3, 5, 7))),
    "convolutions": Example(convolutions, f32(("N", 3, 6, 5), (4, 3, 3, 3), (4,))),
    "norm": Example(norm, f32(("N", 3, 6, 5), (3,), (3,), (3,), (3,))),
    "softmax": Example(lambda x: functional.log_softmax(x * 5, 1), LOGITS),
    "softmax backward": Example(softmax_backward, f32(("N", "K"), ("N", "K"))),
    "class numbers": Example(class_numbers, LOGITS),
    "one": Example(lambda x: torch.ones_like(x.sum()) + x),
    "cast": Example(lambda x: x.to(torch.float32) * 0.5, INTEGERS),
    "argmax": Example(lambda x: x.argmax(1), LOGITS),
    "copies": Example(lambda x: (x.clone(), x.detach() + 1)),
    "constant": Example(lambda x: x + torch.tensor([1.0, 2.0, 3.0])),
    "mask": Example(mask, MASKED),
    "bytes": Example(eight_bits, f32(("N", 3, 6, 5))),
}


def traced(example: Example) -> Traced:
    def function(*arguments: Tensor) -> Sequence[Tensor]:
        result = example.function(*arguments)
        return result if isinstance(result, tuple) else (result,)

    count = len(function(*(tensor for tensor in arguments(example))))
    return trace(function, example.inputs, [f"out{index}" for index in range(count)])


def arguments(example: Example) -> list[Tensor]:
    """Real tensors for the inputs, with N and K that differ from those traced with."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"N": N, "K": K}
    tensors = []
    for declared in example.inputs:
        shape = [sizes[d] if isinstance(d, str) else d for d in declared.shape]
        if declared.dtype == torch.int64:
            tensors.append(torch.randint(3, shape, generator=generator))
        else:
            tensors.append(torch.randn(shape, generator=generator))
    return tensors


def proto(graph: Traced) -> onnx.ModelProto:
    model = ir.to_proto(lower_to_onnx(graph, "example"))
    onnx.checker.check_model(model, full_check=True)
    return model


def in_onnxruntime(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[Array] = session.run(None, feeds)
    return results


def in_reference(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        # The evaluator has it from opset 19 on, which adds types that are not used here.
        model.opset_import[0].version = 19
    results: list[Array] = ReferenceEvaluator(model).run(None, feeds)  # type: ignore[assignment]
    return results


@pytest.mark.parametrize("run", [in_onnxruntime, in_reference])
@pytest.mark.parametrize("name", EXAMPLES)
def test_rule_computes_what_pytorch_computes(
    name: str, run: Callable[[onnx.ModelProto, dict[str, Array]], list[Array]]
) -> None:
    example = EXAMPLES[name]
    tensors = arguments(example)
    model = proto(traced(example))
    declared = {value.name for value in model.graph.input}
    feeds = {
        i.name: t.numpy()
        for i, t in zip(example.inputs, tensors, strict=True)
        if i.name in declared
    }
    expected = example.function(*tensors)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    for found, tensor in zip(run(model, feeds), wanted, strict=True):
        assert found.dtype == tensor.numpy().dtype
        np.testing.assert_allclose(found, tensor.numpy(), **TOLERANCE)


def test_examples_cover_every_rule() -> None:
    """Those of bytes have their own: runtime_tests/core/integer/test_operators.py."""
    used = {n.target for e in EXAMPLES.values() for n in traced(e).graph.graph.nodes}
    # Copies and aliases are gone once a graph is traced over.
    silent = {aten.detach.default, aten.clone.default, aten.lift_fresh_copy.default}
    assert RULES.keys() - used - silent - integer.RULES.keys() == set()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_masks_are_those_of_the_reference_byte_for_byte(batch: int) -> None:
    model = proto(traced(EXAMPLES["mask"]))
    generator = np.random.default_rng(batch)
    a = generator.normal(size=(batch, 3, 8)).astype(np.float32)
    grad = generator.normal(size=a.shape).astype(np.float32)
    edges = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, -1e-45], np.float32)
    a.flat[:6] = edges
    grad.flat[6:12] = [0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38]
    feeds: dict[str, Array] = {"x": a, "y": grad}
    packed, masked = in_onnxruntime(model, feeds)
    expected = masks_reference.pack_mask(a)
    assert packed.dtype == np.uint8
    assert packed.nbytes == a.size // 8
    assert packed.tobytes() == expected.tobytes()
    assert masked.tobytes() == masks_reference.apply_mask(expected, grad).tobytes()


def test_mask_that_is_no_whole_number_of_bytes_is_refused() -> None:
    example = Example(masks.pack_mask, f32(("N", 3, 5)))
    with pytest.raises(UnsupportedModel, match=r"15 elements per picture.*multiple of 8"):
        lower_to_onnx(traced(example), "odd")


@pytest.mark.parametrize("options", [{"divisor_override": 3}, {"padding": 1, "ceil_mode": True}])
def test_pooling_that_runtimes_disagree_on_is_refused(options: dict[str, int]) -> None:
    example = Example(lambda x: functional.avg_pool2d(x, 2, **options), MAP)
    with pytest.raises(UnsupportedModel, match=r"has no ONNX translation, expected no divisor"):
        lower_to_onnx(traced(example), "pool")


def test_variance_over_pictures_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="variance over pictures"):
        lower_to_onnx(traced(Example(lambda x: x.var((0, 2, 3)), MAP)), "variance")


def test_operator_without_a_rule_is_named() -> None:
    with pytest.raises(UnsupportedModel, match=r"aten\.erf\.default of node erf has no ONNX"):
        lower_to_onnx(traced(Example(torch.erf)), "erf")


def test_size_that_is_no_sum_of_products_is_named() -> None:
    example = Example(lambda x: x / (x.shape[0] // 2 + 1))
    with pytest.raises(UnsupportedModel, match="no ONNX form, expected sums and products"):
        lower_to_onnx(traced(example), "half")


def test_only_the_default_domain_at_one_opset() -> None:
    model = proto(traced(EXAMPLES["mask"]))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}


def test_dimensions_are_called_n_and_k() -> None:
    model = proto(traced(EXAMPLES["product with bias"]))
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"x": ["N", 3], "y": ["K", 3], "z": ["K"], "out0": ["N", "K"]}


def test_equal_constants_are_written_once() -> None:
    model = proto(traced(Example(lambda x: x * 2 + 2)))
    assert len(model.graph.initializer) == 1


def test_input_passed_through_gets_a_node() -> None:
    model = proto(traced(Example(lambda x: (x, x + 1))))
    assert sorted(node.op_type for node in model.graph.node) == ["Add", "Identity"]
