"""Tensors, numbers and sizes as operands of ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from onnxscript import ir

from mobiletl.export.lowering.onnx.builder import ONNX_TYPES, OnnxBuilder

Size = int | torch.SymInt
Rule = Callable[..., Any]
Rules = Mapping[Any, Rule]


def meta(node: Any) -> torch.Tensor:
    """What tracing knows of a node's result: its shape and dtype, no values."""
    value: torch.Tensor = node.meta["val"]
    return value


def operand(b: OnnxBuilder, value: Any, like: torch.Tensor) -> ir.Value:
    """A tensor, a number or a size as an operand of arithmetic whose result is like `like`.

    Scalars get the rank of the result: onnxruntime's broadcasting of a scalar over a shape that
    ends in 1, as 1x1 kernels do, goes element by element and takes 90 times longer (4.0 ms
    against 0.044 ms for [1280,320,1,1], onnxruntime 1.31.1, x86-64).
    """
    ones = (1,) * like.dim()
    if isinstance(value, ir.Value):
        scalar = value.shape is not None and len(value.shape) == 0
        return b.op("Reshape", value, b.integers(ones)) if scalar and ones else value
    if isinstance(value, torch.SymInt):
        size = b.op("Cast", b.size(value), to=ONNX_TYPES[like.dtype])
        return b.op("Reshape", size, b.integers(ones)) if ones else size
    dtype = np.int64 if like.dtype == torch.int64 else np.float32
    return b.constant(np.full(ones, value), dtype)


def unary(kind: str) -> Rule:
    """The rule of an operator that ONNX has under the name `kind`."""
    return lambda b, _node, x: b.op(kind, x)
