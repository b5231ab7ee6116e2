"""Kernels in whole levels, rounded so that a convolution's outputs change least, not its weights.

With X the columns that a kernel w is multiplied with, less their mean, rounding to q costs
|(w - q) X|^2. Weights are rounded in order, and those still to come take up the error of each, as
the covariance H = X X' + d I says they best can: with U' U = inv(H), U upper triangular, w[k] for
k > j loses (w[j] - q[j]) U[j,k] / U[j,j] (GPTQ: Frantar et al., ICLR 2023, arXiv 2210.17323). What
the mean of the columns loses is the bias's to add (Nagel et al., ICCV 2019, arXiv 1906.04721).

Letters: C' output channels of a convolution, G its groups, D weights of one output channel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mobiletl.export.prefix.ranges import Columns

Floats = npt.NDArray[np.float32]
# d as a share of the mean of H's diagonal, GPTQ's own choice.
_DAMPING = 0.01


def rounded(
    kernel: Floats, columns: Columns, largest: int, least: Floats
) -> tuple[npt.NDArray[np.int8], Floats, Floats]:
    """Return levels i8 of the shape of `kernel` f32[C',..], from -`largest` to `largest`, their
    scale f32[C'] and what to add to the bias, f32[C'].

    A scale is at least `least`, and 1 where that and all weights are 0.
    """
    mean = columns.mean()
    groups, numbers = mean.shape
    wanted = kernel.reshape(groups, -1, numbers).astype(np.float64)
    scale = np.maximum(np.abs(wanted).max(axis=2) / largest, least.reshape(groups, -1))
    scale[scale == 0] = 1.0
    scale = scale.astype(np.float32).astype(np.float64)
    upper = _upper(columns.covariance())
    left, levels = wanted.copy(), np.empty(wanted.shape)
    for j in range(numbers):
        levels[:, :, j] = np.rint(left[:, :, j] / scale).clip(-largest, largest)
        error = (left[:, :, j] - levels[:, :, j] * scale) / upper[:, None, j, j]
        left[:, :, j + 1 :] -= error[:, :, None] * upper[:, None, j, j + 1 :]
    lost = ((wanted - levels * scale[:, :, None]) * mean[:, None, :]).sum(axis=2)
    return (
        levels.astype(np.int8).reshape(kernel.shape),
        scale.astype(np.float32).reshape(-1),
        lost.astype(np.float32).reshape(-1),
    )


def _upper(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return U f64[G,D,D] of each group."""
    diagonal = np.einsum("gii->gi", covariance)
    damping = _DAMPING * diagonal.mean(axis=1)
    # A group that nothing reaches has H = 0; any damping serves there.
    damping[damping <= 0] = 1.0
    inverse = np.linalg.inv(covariance + damping[:, None, None] * np.eye(covariance.shape[1]))
    return np.asarray(np.linalg.cholesky(inverse).transpose(0, 2, 1))
