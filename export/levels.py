"""Whole levels for weights, chosen so that a layer's outputs change least, not its weights.

Algebra: with the columns X [D,L] that the weights w [D] of an output channel are multiplied with,
rounding to q costs |(w - q) X|^2. Weights are rounded in order, and those still to come take up the
error of each, as the Hessian H = X X' + d I says they best can: with U' U = inv(H), U upper
triangular, w[k] for k > j loses (w[j] - q[j]) U[j,k] / U[j,j] (GPTQ: Frantar et al., ICLR 2023,
arXiv 2210.17323, section 3).

Letters: G groups that share nothing, R output channels of a group, D weights of one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
# d as a share of the mean of H's diagonal, GPTQ's own choice.
_DAMPING = 0.01


def nearest_outputs(
    weights: Doubles,
    scale: Doubles,
    products: Doubles,
    largest: int,
    pinned: npt.NDArray[np.int64] | None = None,
) -> Doubles:
    """Return whole numbers f64[G,R,D] from -`largest` to `largest` for `weights` f64[G,R,D].

    `scale` f64[G,R] is what a level stands for, `products` f64[G,D,D] is X X' of each group, or
    any multiple of it. The weights at `pinned` [G,R] get the largest level of their sign.
    """
    upper = _upper(products)
    left, levels = weights.copy(), np.empty(weights.shape)
    for j in range(weights.shape[2]):
        levels[:, :, j] = np.rint(left[:, :, j] / scale).clip(-largest, largest)
        if pinned is not None:
            peaks = largest * np.sign(weights[:, :, j])
            levels[:, :, j] = np.where(pinned == j, peaks, levels[:, :, j])
        error = (left[:, :, j] - levels[:, :, j] * scale) / upper[:, None, j, j]
        left[:, :, j + 1 :] -= error[:, :, None] * upper[:, None, j, j + 1 :]
    return levels


def _upper(products: Doubles) -> Doubles:
    """Return U f64[G,D,D] of each group."""
    damping = _DAMPING * np.einsum("gii->gi", products).mean(axis=1)
    # A group that nothing reaches has H = 0; any damping serves there.
    damping[damping <= 0] = 1.0
    inverse = np.linalg.inv(products + damping[:, None, None] * np.eye(products.shape[1]))
    return np.asarray(np.linalg.cholesky(inverse).transpose(0, 2, 1))
