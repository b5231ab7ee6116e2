"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch
from onnxscript import ir
from torch import fx

from mobiletl.export.lowering.onnx.builder import OnnxBuilder
from mobiletl.export.lowering.onnx.rules.operands import Rules
from mobiletl.export.tracing.separable import SEPARABLE

aten = torch.ops.aten


def _t(b: OnnxBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    if all(reader.target in MATRIX_PRODUCTS for reader in node.users):
        return x  # `Gemm` transposes by a flag, see `_flags`
    return b.op("Transpose", x, perm=[1, 0])


def _flags(node: fx.Node, first: int) -> dict[str, Any]:
    """Whether the two factors at `first` and `first + 1` were passed on untransposed by `_t`."""
    flags = {}
    for name, factor in zip(("transA", "transB"), node.args[first : first + 2], strict=True):
        assert isinstance(factor, fx.Node)
        skipped = factor.target is aten.t.default and all(
            reader.target in MATRIX_PRODUCTS for reader in factor.users
        )
        flags[name] = int(skipped)
    return flags


def _mm(b: OnnxBuilder, node: fx.Node, left: ir.Value, right: ir.Value) -> ir.Value:
    return b.op("Gemm", left, right, **_flags(node, 0))


def _addmm(
    b: OnnxBuilder, node: fx.Node, bias: ir.Value, left: ir.Value, right: ir.Value
) -> ir.Value:
    return b.op("Gemm", left, right, bias, **_flags(node, 1))


def _bmm(b: OnnxBuilder, _node: fx.Node, left: ir.Value, right: ir.Value) -> ir.Value:
    return b.op("MatMul", left, right)


def _separable(
    b: OnnxBuilder, _node: fx.Node, x: ir.Value, rows: ir.Value, columns: ir.Value
) -> ir.Value:
    return b.op("MatMul", b.op("MatMul", rows, x), columns)


MATRIX_PRODUCTS = (aten.mm.default, aten.addmm.default)

RULES: Rules = {
    aten.t.default: _t,
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.bmm.default: _bmm,
    SEPARABLE: _separable,
}
