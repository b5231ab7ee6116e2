"""Operators on feature maps: convolutions, norms, pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnxscript import ir
from torch import fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.lowering.onnx.builder import OnnxBuilder
from mobiletl.export.lowering.onnx.rules.operands import Rules, Size, meta

aten = torch.ops.aten


def _convolution(
    b: OnnxBuilder,
    node: fx.Node,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> ir.Value:
    shape = [s if isinstance(s, int) else 0 for s in meta(node.args[1]).shape[2:]]
    attributes: dict[str, Any] = {
        "strides": list(stride),
        "pads": [*padding, *padding],
        "dilations": list(dilation),
        "group": groups,
        "kernel_shape": shape,
    }
    inputs = [x, weight] if bias is None else [x, weight, bias]
    if transposed:
        return b.op("ConvTranspose", *inputs, output_padding=list(output_padding), **attributes)
    return b.op("Conv", *inputs, **attributes)


def _batch_norm_inference(
    b: OnnxBuilder,
    _node: fx.Node,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value,
    mean: ir.Value,
    var: ir.Value,
    _momentum: float,
    eps: float,
) -> tuple[ir.Value]:
    return (b.op("BatchNormalization", x, weight, bias, mean, var, epsilon=eps),)


def _group_norm(
    b: OnnxBuilder,
    node: fx.Node,
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    _n: Size,
    channels: int,
    _pixels: int,
    groups: int,
    eps: float,
) -> tuple[ir.Value]:
    """Every group is one instance; scale and shift follow. opset 18's own scales by groups only."""
    instances = b.op("Reshape", x, b.integers([0, groups, -1]))
    one, zero = (b.constant(np.full(groups, value), np.float32) for value in (1, 0))
    normal = b.op("InstanceNormalization", instances, one, zero, epsilon=eps)
    sizes = [s if isinstance(s, int) else -1 for s in meta(node.args[0]).shape]
    y = b.op("Reshape", normal, b.integers(sizes))
    per_channel = b.integers([1, channels, *(1 for _ in sizes[2:])])
    if weight is not None:
        y = b.op("Mul", y, b.op("Reshape", weight, per_channel))
    return (y if bias is None else b.op("Add", y, b.op("Reshape", bias, per_channel)),)


def _average_pool(
    b: OnnxBuilder,
    _node: fx.Node,
    x: ir.Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> ir.Value:
    if divisor is not None or (ceil and any(padding)):
        raise UnsupportedModel(
            f"an average pooling with divisor_override={divisor}, ceil_mode={ceil} and padding "
            f"{list(padding)} has no ONNX translation, expected no divisor_override, and ceil_mode "
            "only without padding"
        )
    return b.op(
        "AveragePool",
        x,
        kernel_shape=list(kernel),
        strides=list(stride or kernel),
        pads=[*padding, *padding],
        ceil_mode=int(ceil),
        # Without padding both counts are the same, and runtimes differ where windows hang over.
        count_include_pad=int(count_padding and any(padding)),
    )


RULES: Rules = {
    aten.convolution.default: _convolution,
    aten._native_batch_norm_legit_no_training.default: _batch_norm_inference,
    aten.native_group_norm.default: _group_norm,
    aten.avg_pool2d.default: _average_pool,
}
