"""Masks of one bit per element: packing, and applying them to a gradient."""

from __future__ import annotations

import math

import numpy as np
import torch
from onnxscript import ir
from torch import fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.masks import BITS_PER_BYTE
from mobiletl.export.lowering.onnx.builder import OnnxBuilder
from mobiletl.export.lowering.onnx.rules.operands import Rules, meta


def _pack_mask(b: OnnxBuilder, node: fx.Node, a: ir.Value) -> ir.Value:
    return packed(b, node, b.op("GreaterOrEqual", a, b.number(0.0)))


def packed(b: OnnxBuilder, node: fx.Node, passes: ir.Value) -> ir.Value:
    """The bits of what is true or false for each element of the node's first argument.

    Eight rows of 0 and 1 times (1, 2, 4 ... 128): an integer product packs each column.
    """
    _require_whole_bytes(meta(node.args[0]))
    bits = b.op("Cast", passes, to=ir.DataType.UINT8)
    rows = b.op("Reshape", bits, b.integers([BITS_PER_BYTE, -1]))
    powers = b.constant([[1 << k for k in range(BITS_PER_BYTE)]], np.uint8)
    joined = b.op("Cast", b.op("MatMulInteger", powers, rows), to=ir.DataType.UINT8)
    return b.op("Reshape", joined, b.integers([-1]))


def _apply_mask(b: OnnxBuilder, node: fx.Node, bits: ir.Value, grad: ir.Value) -> ir.Value:
    sizes = [s if isinstance(s, int) else -1 for s in meta(node).shape]
    factors = b.op("Cast", unpacked(b, bits), to=ir.DataType.FLOAT)
    return b.op("Mul", b.op("Reshape", factors, b.integers(sizes)), grad)


def unpacked(b: OnnxBuilder, bits: ir.Value) -> ir.Value:
    """bool [8,n/8]: every byte against 1, 2, 4, ... 128 gives eight rows, the mask in order."""
    powers = b.constant([[1 << k] for k in range(BITS_PER_BYTE)], np.uint8)
    rows = b.op("BitwiseAnd", b.op("Reshape", bits, b.integers([1, -1])), powers)
    # Every power of two is true.
    return b.op("Cast", rows, to=ir.DataType.BOOL)


def _require_whole_bytes(a: torch.Tensor) -> None:
    """The eight runs of a mask are equally long for every N only then (`pack_mask` pads)."""
    per_picture = math.prod(s for s in a.shape if isinstance(s, int))
    if per_picture % BITS_PER_BYTE:
        raise UnsupportedModel(
            f"a masked activation has {per_picture} elements per picture, expected a multiple of "
            f"{BITS_PER_BYTE}; use a width whose channels are multiples of {BITS_PER_BYTE}"
        )


RULES: Rules = {
    torch.ops.mobiletl.pack_mask.default: _pack_mask,
    torch.ops.mobiletl.apply_mask.default: _apply_mask,
}
