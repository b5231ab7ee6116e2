"""Any convolution and its gradients through the runtime's own, on channel-major maps [C,N,H,W].

For dense and grouped k x k kernels, and for depthwise ones on maps too wide for bands. Forward and
input gradient permute to [N,C,H,W] for the runtime's convolution and its transpose. The weight
gradient is a convolution as well, with pictures and channels in each other's place: the maps stored
as [C,N,H,W] are C inputs of N channels, the gradient is a kernel of the size of the output, and a
stride turns into a dilation,

    dW[o, c, dy, dx] = sum over n, h, w of  grad[o, n, h, w] x[c, n, s h + dy - p, s w + dx - p]

It sums over N by itself, so N may be dynamic, and unfolds one channel at a time: the copies of x
that a product over k*k shifted maps needs would be k*k times the map.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int
) -> Tensor:
    """x [C,N,H,W], weight [C',C/groups,k,k], bias [C'] -> [C',N,H',W']."""
    y = functional.conv2d(x.transpose(0, 1), weight, bias, stride, padding, groups=groups)
    return y.transpose(0, 1)


def input_gradient(
    grad: Tensor, weight: Tensor, size: tuple[int, int], stride: int, padding: int, groups: int
) -> Tensor:
    """grad [C',N,H',W'] -> [C,N,H,W], where (H, W) is `size`."""
    # Rows and columns below and right of the last window: a stride may leave some out.
    left_over = [
        full - ((int(out) - 1) * stride + int(kernel) - 2 * padding)
        for full, out, kernel in zip(size, grad.shape[2:], weight.shape[2:], strict=True)
    ]
    x = functional.conv_transpose2d(
        grad.transpose(0, 1), weight, None, stride, padding, left_over, groups
    )
    return x.transpose(0, 1)


def weight_gradient(
    grad: Tensor, x: Tensor, kernel: tuple[int, int], stride: int, padding: int, groups: int
) -> Tensor:
    """grad [C',N,H',W'], x [C,N,H,W] -> [C',C/groups,k,k]."""
    y = functional.conv2d(
        _groups_beside_pictures(x, groups),
        grad,
        None,
        stride=1,
        padding=padding,
        dilation=stride,
        groups=groups,
    )
    return y[:, :, : kernel[0], : kernel[1]].transpose(0, 1)


def _groups_beside_pictures(x: Tensor, groups: int) -> Tensor:
    """[C,N,H,W] to [C/groups, groups*N, H, W]: N channels of input for each group of kernels."""
    channels, _, height, width = x.shape
    if groups == 1:
        return x
    if groups == channels:
        return x.reshape(1, -1, height, width)  # nothing moves
    apart = x.reshape(groups, channels // groups, -1, height, width)
    return apart.transpose(0, 1).reshape(channels // groups, -1, height, width)
