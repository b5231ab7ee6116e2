"""Kernels of the frozen layers in whole levels, and what their rounding leaves to the bias.

Levels are those of `export/levels.py` for the columns that a kernel is multiplied with, less their
mean. What the mean of the columns loses is the bias's to add (Nagel et al., ICCV 2019,
arXiv 1906.04721).

Letters: C' output channels of a convolution, G its groups, D weights of one output channel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mobiletl.export.levels import nearest_outputs
from mobiletl.export.prefix.ranges import Columns

Floats = npt.NDArray[np.float32]


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
    levels = nearest_outputs(wanted, scale, columns.covariance(), largest)
    lost = ((wanted - levels * scale[:, :, None]) * mean[:, None, :]).sum(axis=2)
    return (
        levels.astype(np.int8).reshape(kernel.shape),
        scale.astype(np.float32).reshape(-1),
        lost.astype(np.float32).reshape(-1),
    )
