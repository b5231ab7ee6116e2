"""Linear maps over rows and columns: bilinear resizes, and the backward pass of average pooling.

y[., ., i, j] = sum over k, l of rows[i, k] x[., ., k, l] columns[l, j]. Both passes are two matrix
products by constants, the backward one by their transposes; onnxruntime-training has a working
gradient of neither Resize nor AveragePool. PyTorch takes a resize apart into gathers, whose
backward pass scatters: `ResizesAsProducts` keeps it whole while a function is traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@torch.library.custom_op("mobiletl::separable", mutates_args=())
def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x [A,B,H,W], rows [H',H], columns [W,W'] -> [A,B,H',W']."""
    return torch.matmul(torch.matmul(rows, x), columns).contiguous()


# What a traced graph calls it; importing this also makes the operator known.
SEPARABLE: Any = torch.ops.mobiletl.separable.default


@separable.register_fake
def _(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:2], rows.shape[0], columns.shape[1]))


def _keep_matrices(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    rows, columns = ctx.saved_tensors
    dx: Tensor = SEPARABLE(grad, rows.t(), columns.t())
    return dx, None, None


separable.register_autograd(_backward, setup_context=_keep_matrices)


def bilinear(size: int, new_size: int, scale: float | None = None) -> Tensor:
    """f32 [new_size, size], one row of two weights per new element, corners not aligned.

    `scale` is the step between new elements in old ones if it is not size / new_size.
    """
    step = size / new_size if scale is None else scale
    where = np.clip((np.arange(new_size) + 0.5) * step - 0.5, 0, size - 1)
    distance = np.abs(where[:, None] - np.arange(size))
    return torch.from_numpy(np.maximum(0.0, 1.0 - distance).astype(np.float32))


def average(
    size: int, new_size: int, kernel: int, stride: int, padding: int, count_padding: bool
) -> Tensor:
    """f32 [new_size, size]: one axis of an average pooling. A window that hangs over the end of the
    padding is smaller; zeros of the padding count if `count_padding` says so.
    """
    start = np.arange(new_size)[:, None] * stride - padding
    end = np.minimum(start + kernel, size + padding)
    place = np.arange(size)
    inside = (place >= start) & (place < end)
    counted = end - start if count_padding else inside.sum(axis=1, keepdims=True)
    return torch.from_numpy((inside / counted).astype(np.float32))


class ResizesAsProducts(TorchFunctionMode):
    """Inside, bilinear `functional.interpolate` of maps is `separable`; nothing else changes."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is functional.interpolate and options.get("mode") == "bilinear" and len(args) == 1:
            result = _resized(args[0], **options)
            if result is not None:
                return result
        return func(*args, **options)


def _resized(
    x: Tensor,
    mode: str,
    size: Any = None,
    scale_factor: Any = None,
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor | None:
    """None for the forms of a resize that this does not know."""
    if size is None or scale_factor is not None or align_corners or antialias:
        return None
    new = (size, size) if isinstance(size, int) else tuple(size)
    rows, columns = (bilinear(int(old), n) for old, n in zip(x.shape[2:], new, strict=True))
    result: Tensor = separable(x, rows, columns.t().contiguous())
    return result
