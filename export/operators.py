"""What operators do to elements and to memory: the one table that passes, orders and plans read.

What a runtime can run is not in here: that is the business of its rules (lowering/). The verifier
of memory plans keeps a table of its own, on purpose: it is to find mistakes in this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

aten = torch.ops.aten


class Storage(Enum):
    """Where onnxruntime puts the output of an operator, without memory pattern and reuse."""

    ALIASES = "it gives its input another shape and allocates nothing"
    IN_PLACE = "it writes over an input of the same size that nobody reads afterwards"
    ALLOCATES = "it gets new memory while all inputs are still alive"


@dataclass(frozen=True)
class OnnxOperator:
    """An operator of the default domain or of onnxruntime's own. `elementwise`: element i of its
    output depends on element i of its inputs alone, so that it may write over one of them.
    `scratch`: how many pieces as large as its output it takes besides, while it runs.
    """

    name: str
    storage: Storage = Storage.ALLOCATES
    elementwise: bool = False
    scratch: int = 0


# Sums and products are among those that allocate (seen with an allocation counter, onnxruntime
# 1.31.1).
ONNX = (
    OnnxOperator("Identity", Storage.ALIASES, elementwise=True),
    *(OnnxOperator(name, Storage.ALIASES) for name in ("Reshape", "Squeeze", "Unsqueeze")),
    *(OnnxOperator(name, Storage.IN_PLACE) for name in ("Clip", "HardSigmoid", "Relu", "Sigmoid")),
    *(OnnxOperator(name, elementwise=True) for name in ("Add", "Div", "Mul", "Sub")),
    OnnxOperator("Where", scratch=2),
    *(
        OnnxOperator(name)
        for name in (
            "Abs", "And", "ArgMax", "AveragePool", "BatchNormalization", "BitwiseAnd", "Cast",
            "Concat", "Conv", "ConvTranspose", "CumSum", "DequantizeLinear", "Equal", "Exp",
            "Expand", "Gather", "Gemm", "GlobalAveragePool", "Greater", "GreaterOrEqual",
            "InstanceNormalization", "Less", "LogSoftmax", "MatMul", "MatMulInteger",
            "MatMulIntegerToFloat", "Max", "Min", "Neg", "Pad", "Pow", "QLinearConv",
            "QuantizeLinear", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum",
            "Round", "Shape", "Sign", "Slice", "Sqrt", "Transpose",
        )
    ),
)  # fmt: skip
ONNX_BY_NAME = {row.name: row for row in ONNX}


@dataclass(frozen=True)
class AtenOperator:
    """An operator of a traced graph.

    `passes_on`: its result is its argument. `view`: its result shares memory with its first
    argument. `elementwise`: element i of its result depends on element i of its operands, which
    broadcast. `fresh`: its results have memory of their own, contiguous for contiguous arguments.
    `writes`: the variant that writes its result into memory it is given, where that may be an
    operand's.
    """

    target: Any
    passes_on: bool = False
    view: bool = False
    elementwise: bool = False
    fresh: bool = False
    writes: Any = None


ATEN = (
    AtenOperator(aten.alias.default, passes_on=True, view=True),
    AtenOperator(aten.detach.default, passes_on=True, view=True),
    AtenOperator(aten.lift_fresh_copy.default, passes_on=True),
    *(
        AtenOperator(target, view=True)
        for target in (
            aten.expand.default, aten.permute.default, aten.select.int, aten.slice.Tensor,
            aten.t.default, aten.transpose.int, aten.unsqueeze.default, aten.view.default,
            aten._unsafe_view.default,
        )
    ),
    AtenOperator(aten.add.Tensor, elementwise=True, writes=aten.add.out),
    AtenOperator(aten.sub.Tensor, elementwise=True, writes=aten.sub.out),
    AtenOperator(aten.mul.Tensor, elementwise=True, writes=aten.mul.out),
    AtenOperator(aten.mul.Scalar, elementwise=True, writes=aten.mul.Scalar_out),
    AtenOperator(aten.div.Tensor, elementwise=True, writes=aten.div.out),
    *(
        AtenOperator(target, elementwise=True)
        for target in (
            aten.rsub.Scalar, aten.div.Scalar, aten.neg.default, aten.abs.default,
            aten.sgn.default, aten.sqrt.default, aten.rsqrt.default, aten.reciprocal.default,
            aten.exp.default, aten.pow.Tensor_Scalar, aten.minimum.default, aten.maximum.default,
            aten.clamp.default, aten.sigmoid.default, aten.sigmoid_backward.default,
            aten.relu.default, aten.threshold_backward.default, aten.hardtanh.default,
            aten.hardtanh_backward.default, aten.hardswish.default,
            aten.hardswish_backward.default, aten.hardsigmoid.default,
            aten.hardsigmoid_backward.default,
        )
    ),
    *(
        AtenOperator(target, fresh=True)
        for target in (
            aten.convolution.default, aten.convolution_backward.default,
            aten._native_batch_norm_legit.default, aten.native_batch_norm_backward.default,
        )
    ),
)  # fmt: skip
PASSED_ON = frozenset(row.target for row in ATEN if row.passes_on)
VIEWS = frozenset(row.target for row in ATEN if row.view)
ELEMENTWISE = tuple(row.target for row in ATEN if row.elementwise)
FRESH = frozenset(row.target for row in ATEN if row.fresh)
WRITES_OVER = frozenset(row.writes for row in ATEN if row.writes is not None)
