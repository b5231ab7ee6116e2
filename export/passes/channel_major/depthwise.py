"""Depthwise convolutions and their gradients, on channel-major maps [C,N,H,W].

A runtime's grouped convolution handles one channel of one picture at a time; on a 7x7 map that is
bookkeeping more than arithmetic. Where stride is 1 and the map is narrow, rows are multiplied by a
band matrix instead: B[c,dy] is [W,W'] and holds the kernel row dy of channel c along its
diagonals,

    y[c, n, h, :] = sum over dy of  x[c, n, h + dy - p, :] @ B[c, dy]

which is one batched matrix product per kernel row. It spends W/k times the multiplications, so
wider maps and strides take the way of `general.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.export.passes.channel_major import general

# Widest map for which band matrices beat grouped convolution (onnxruntime, x86-64: 2 to 3 times
# faster at 7, 1.3 to 3 times at 14).
WIDEST_BAND = 16


def forward(
    x: Tensor, weight: Tensor, stride: int, padding: int, bias: Tensor | None = None
) -> Tensor:
    """x [C,N,H,W], weight [C,1,k,k], bias [C] -> [C,N,H',W']."""
    if not _fits_band(x, weight, stride, padding):
        return general.forward(x, weight, bias, stride, padding, weight.shape[0])
    y = _correlate_rows(x, _bands(weight, x.shape[3], transposed=False), padding)
    return y if bias is None else y + bias.view(-1, 1, 1, 1)


def input_gradient(
    grad: Tensor, weight: Tensor, size: tuple[int, int], stride: int, padding: int
) -> Tensor:
    """grad [C,N,H',W'] -> [C,N,H,W], where (H, W) is `size`."""
    if _fits_band(grad, weight, stride, padding):
        # The kernel turned by half a turn: rows in reverse order, each band transposed.
        bands = _bands(weight, grad.shape[3], transposed=True)
        return _correlate_rows(grad, bands[::-1], padding)
    return general.input_gradient(grad, weight, size, stride, padding, weight.shape[0])


def weight_gradient(grad: Tensor, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """grad [C,N,H',W'], x [C,N,H,W] -> [C,1,k,k]."""
    if stride == 1 and 2 * padding == kernel - 1 and x.shape[3] <= WIDEST_BAND:
        return _band_weight_gradient(grad, x, kernel)
    return general.weight_gradient(grad, x, (kernel, kernel), stride, padding, x.shape[0])


def _fits_band(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    same_size = stride == 1 and 2 * padding == weight.shape[2] - 1
    return same_size and int(x.shape[3]) <= WIDEST_BAND


def _diagonals(kernel: int, width: int, transposed: bool = False) -> Tensor:
    """f32 [k, W*W]: 1 where kernel column dx connects input column i to output column o."""
    # NumPy, so that a trace records the result as one constant.
    dx, i, o = np.ogrid[:kernel, :width, :width]
    connected = i == o + dx - kernel // 2
    if transposed:
        connected = connected.transpose(0, 2, 1)
    return torch.from_numpy(connected.reshape(kernel, -1).astype(np.float32))


def _bands(weight: Tensor, width: int, transposed: bool) -> list[Tensor]:
    """One band matrix [C,W,W] per kernel row, from weight [C,1,k,k]."""
    channels, _, kernel, _ = weight.shape
    pattern = _diagonals(kernel, width, transposed).to(weight.dtype)
    flat = weight.reshape(-1, kernel) @ pattern
    rows = flat.view(channels, kernel, width, width)
    return [rows[:, dy] for dy in range(kernel)]


def _correlate_rows(x: Tensor, bands: list[Tensor], padding: int) -> Tensor:
    """sum over dy of x's rows moved by dy - p, times bands[dy]; [C,N,H,W] to the same."""
    channels, _, height, width = x.shape
    padded = functional.pad(x, (0, 0, padding, padding))
    total: Tensor | None = None
    for dy, band in enumerate(bands):
        rows = padded[:, :, dy : dy + height].reshape(channels, -1, width)
        part = torch.bmm(rows, band)
        total = part if total is None else total + part
    assert total is not None
    return total.view(channels, -1, height, width)


def _band_weight_gradient(grad: Tensor, x: Tensor, kernel: int) -> Tensor:
    """The transpose of `_correlate_rows`: products of columns, summed along their diagonals."""
    channels, _, height, width = x.shape
    padding = kernel // 2
    columns = functional.pad(x, (0, 0, padding, padding)).permute(0, 3, 1, 2)  # [C,W,N,H+2p]
    flat_grad = grad.reshape(channels, -1, width)
    pattern = _diagonals(kernel, width).to(grad.dtype).t()
    rows = []
    for dy in range(kernel):
        shifted = columns[:, :, :, dy : dy + height].reshape(channels, width, -1)
        products = torch.bmm(shifted, flat_grad)
        rows.append(products.reshape(channels, -1) @ pattern)
    return torch.stack(rows, dim=1).view(channels, 1, kernel, kernel)
