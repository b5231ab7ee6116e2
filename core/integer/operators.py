"""Operators on bytes, of which an integer training step is made.

Letters: R rows (a row is a pixel of a picture), C channels, M x K times K x N a product, k the side
of a kernel. Maps are [N,H,W,C], so that rows of channels lie one behind the other.

Three forms of a float x:

- **centred**: u8, x ~ scale (byte - 128), scale = max|x| / 127 of the whole tensor. Left operands.
- **signed**: s8 of 7 bits, x ~ scale byte, scale = max|x| / 63 of a row or column. Right operands
  of products. Seven bits, because kernels for u8 x s8 on x86-64 without VNNI add two products in 16
  bits, and these sums saturate with eight. Kernels of depthwise convolutions, whose products are
  added one by one everywhere, have 127 steps.
- **clamped**: u8, x = 6/255 byte, of what ReLU6 gave. A byte above 0 says that the slope is 1.

Ties are rounded to the even neighbour; no number is random, so that a resumed run has the same
bits. Sums of products are whole numbers below 2^31. Each operator is a custom one: a traced graph
holds it as a single node. `reference.py` says the same in NumPy.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mobiletl.core.layers.masks import apply_mask, pack_mask, packed_bytes

CENTRE = 128
CENTRED_STEPS = 127
SIGNED_STEPS = 63
KERNEL_STEPS = 127
CLAMP = 6.0
CLAMPED_SCALE = CLAMP / 255
# The least scale: zeros are divided by it, and its inverse is a finite float32.
TINIEST = 1e-30
# Of a depthwise kernel. Weaker ones change no byte of a clamped map, and the shift over so small a
# scale would be no int32.
TINIEST_KERNEL = 1e-6
MOST_SHIFT = float(1 << 30)


@torch.library.custom_op("mobiletl::centred_bytes", mutates_args=())
def centred_bytes(x: Tensor) -> tuple[Tensor, Tensor]:
    """x f32 -> (u8 as x, scale f32 [])."""
    scale = (x.abs().amax() / CENTRED_STEPS).clamp(min=TINIEST)
    steps = torch.round(x / scale) + CENTRE
    return steps.clamp(0, 255).to(torch.uint8), scale


@centred_bytes.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.uint8), x.new_empty(())


@torch.library.custom_op("mobiletl::signed_bytes", mutates_args=())
def signed_bytes(x: Tensor, axis: int, steps: int, tiniest: float) -> tuple[Tensor, Tensor]:
    """x f32 [A,B] -> (s8 [A,B], scale f32 [A] or [B]): of each row (axis 0) or column (axis 1)."""
    scale = (x.abs().amax(1 - axis, keepdim=True) / steps).clamp(min=tiniest)
    kept = torch.round(x / scale).clamp(-steps, steps)
    return kept.to(torch.int8), scale.flatten()


@signed_bytes.register_fake
def _(x: Tensor, axis: int, steps: int, tiniest: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=torch.int8), x.new_empty((x.shape[axis],))


@torch.library.custom_op("mobiletl::rescaled_bytes", mutates_args=())
def rescaled_bytes(kept: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """kept s8 [A,B] with a scale for each row, [A] -> (s8 [A,B], its one scale f32 [])."""
    common = scale.amax()
    wanted = torch.round(kept.float() * scale.view(-1, 1) / common)
    return wanted.clamp(-SIGNED_STEPS, SIGNED_STEPS).to(torch.int8), common


@rescaled_bytes.register_fake
def _(kept: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return kept.new_empty(kept.shape), scale.new_empty(())


@torch.library.custom_op("mobiletl::clamped_bytes", mutates_args=())
def clamped_bytes(x: Tensor) -> Tensor:
    """ReLU6 of x f32 as clamped bytes."""
    return torch.round(x / CLAMPED_SCALE).clamp(0, 255).to(torch.uint8)


@clamped_bytes.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.uint8)


@torch.library.custom_op("mobiletl::byte_product", mutates_args=())
def byte_product(
    left: Tensor,
    left_scale: Tensor,
    centre: int,
    right: Tensor,
    right_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """left u8 [M,K], left_scale [], right s8 [K,N], right_scale [N] or [1], bias [N] -> f32 [M,N].

    sum over k of (left - centre) right, times both scales, and the bias.
    """
    sums = (left.double() - centre) @ right.double()
    y = sums.float() * (left_scale * right_scale)
    return y if bias is None else y + bias


@byte_product.register_fake
def _(
    left: Tensor,
    left_scale: Tensor,
    centre: int,
    right: Tensor,
    right_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    return left_scale.new_empty((left.shape[0], right.shape[1]))


@torch.library.custom_op("mobiletl::byte_depthwise", mutates_args=())
def byte_depthwise(
    x: Tensor,
    centre: int,
    kernel: Tensor,
    factor: Tensor,
    shift: Tensor | None,
    stride: int,
    padding: int,
) -> Tensor:
    """x u8 [N,H,W,C], kernel s8 [C,1,k,k], factor and shift f32 [C] -> u8 [N,H',W',C].

    round((sum of (x - centre) kernel, and the rounded shift) factor) + centre, limited to 0 and
    255. Pixels outside the map count as `centre`, which is 0 of a clamped and 128 of a centred map.
    """
    sums = functional.conv2d(
        x.permute(0, 3, 1, 2).double() - centre,
        kernel.double(),
        None,
        stride,
        padding,
        groups=kernel.shape[0],
    ).permute(0, 2, 3, 1)
    if shift is not None:
        sums = sums + torch.round(shift).clamp(-MOST_SHIFT, MOST_SHIFT)
    y = torch.round(sums.float() * factor) + centre
    return y.clamp(0, 255).to(torch.uint8)


@byte_depthwise.register_fake
def _(
    x: Tensor,
    centre: int,
    kernel: Tensor,
    factor: Tensor,
    shift: Tensor | None,
    stride: int,
    padding: int,
) -> Tensor:
    height, width = (
        (side + 2 * padding - kernel.shape[2]) // stride + 1 for side in (x.shape[1], x.shape[2])
    )
    return x.new_empty((x.shape[0], height, width, x.shape[3]))


@torch.library.custom_op("mobiletl::byte_kernel_sums", mutates_args=())
def byte_kernel_sums(x: Tensor, grad: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """x clamped [N,H,W,C], grad centred [N,H',W',C] -> f32 [C,k k], whole numbers: the gradient of
    a depthwise kernel of `side` k, without its scales.
    """
    channels = x.shape[3]
    pictures = x.permute(3, 0, 1, 2).double()
    as_kernels = grad.permute(3, 0, 1, 2).double() - CENTRE
    sums = functional.conv2d(
        pictures.reshape(1, -1, *pictures.shape[2:]),
        as_kernels,
        None,
        1,
        padding,
        stride,
        channels,
    )
    return sums[0, :, :side, :side].reshape(channels, side * side).float()


@byte_kernel_sums.register_fake
def _(x: Tensor, grad: Tensor, side: int, stride: int, padding: int) -> Tensor:
    return x.new_empty((x.shape[3], side * side), dtype=torch.float32)


@torch.library.custom_op("mobiletl::masked_bytes", mutates_args=())
def masked_bytes(mask: Tensor, grad: Tensor) -> Tensor:
    """`grad`, centred, where `mask`, clamped, is above 0, and elsewhere the byte of 0. `grad` may
    have sides of 1 where `mask` has more.
    """
    return torch.where(mask > 0, grad, torch.full((), CENTRE, dtype=torch.uint8))


@masked_bytes.register_fake
def _(mask: Tensor, grad: Tensor) -> Tensor:
    return mask.new_empty(mask.shape)


@torch.library.custom_op("mobiletl::byte_sums", mutates_args=())
def byte_sums(turned: Tensor) -> Tensor:
    """Sums along the rows of a centred [C,R], whole numbers as f32 [C]."""
    return (turned.double() - CENTRE).sum(1).float()


@byte_sums.register_fake
def _(turned: Tensor) -> Tensor:
    return turned.new_empty((turned.shape[0],), dtype=torch.float32)


@torch.library.custom_op("mobiletl::pack_bits", mutates_args=())
def pack_bits(x: Tensor) -> Tensor:
    """1[x > 0] of clamped bytes as bits, u8 [n/8], laid out as `pack_mask` has them."""
    bits: Tensor = pack_mask(x.float() - 1)
    return bits


@pack_bits.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((packed_bytes(x.numel()),))


@torch.library.custom_op("mobiletl::masked_by_bits", mutates_args=())
def masked_by_bits(bits: Tensor, grad: Tensor) -> Tensor:
    """`grad`, centred, where its bit is 1, and elsewhere the byte of 0."""
    passes = apply_mask(bits, torch.ones(grad.shape)) > 0
    return torch.where(passes, grad, torch.full((), CENTRE, dtype=torch.uint8))


@masked_by_bits.register_fake
def _(bits: Tensor, grad: Tensor) -> Tensor:
    return grad.new_empty(grad.shape)
