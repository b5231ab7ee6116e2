"""Average pooling on channel-major maps [C,N,H,W]: forward as it is, backward as products.

Pooling treats every channel of every picture alike, so the forward operator takes maps in either
order. Its gradient hands every window's value back in equal parts; the parts of a window are a
product of one over rows and one over columns, see `export/tracing/separable.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mobiletl.core.errors import UnsupportedModel
from mobiletl.export.tracing.separable import average, separable


def input_gradient(
    grad: Tensor,
    size: tuple[int, int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    count_padding: bool,
    divisor: int | None,
) -> Tensor:
    """grad [C,N,H',W'] -> [C,N,H,W], where (H, W) is `size`."""
    if divisor is not None:
        raise UnsupportedModel(
            f"a trained average pooling with divisor_override={divisor} has no training rule, "
            "expected none"
        )
    rows, columns = (
        average(size[axis], int(grad.shape[2 + axis]), kernel[axis], stride[axis], padding[axis],
                count_padding)
        for axis in (0, 1)
    )  # fmt: skip
    spread: Tensor = separable(grad, rows.t().contiguous(), columns)
    return spread
