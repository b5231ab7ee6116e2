"""Maps kept in bytes: 8 bits per element, with a scale and a zero for every channel.

A layer's weight gradient is a sum of products of the incoming gradient and the layer's input, so
an error of the input enters it once and does not travel further down. Half a step of 1/255 of a
channel's range is little beside the noise of a batch (docs/eight-bits.md has the accuracy).

For the elements x of a channel, zero among them whatever they are:

    scale = max((max(x, 0) - min(x, 0)) / 255, TINIEST)     float32
    zero  = round(-min(x, 0) / scale)                       uint8
    byte  = clamp(round(x / scale) + zero, 0, 255)          uint8
    x^    = (byte - zero) * scale                           float32

Ties are rounded to the even neighbour. So 0.0 is kept exactly, and |x - x^| <= scale; the quotients
are divisions and no products with an inverse. These are ONNX's QuantizeLinear and DequantizeLinear.
`bytes_reference.py` says the same in NumPy. Nothing is random: a resumed run has the same bits.

Both operators are custom ops, so a traced graph holds each of them as a single node, which every
runtime translates in its own way.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 255
# The least scale: a channel of zeros is divided by it. Its inverse is a finite float32.
TINIEST = 1e-30


@torch.library.custom_op("mobiletl::pack_bytes", mutates_args=())
def pack_bytes(x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, float32, channels along `axis` -> (bytes uint8 as x, scale f32 [C], zero u8 [C])."""
    others = [each for each in range(x.dim()) if each != axis]
    low = x.amin(others).clamp(max=0.0)
    high = x.amax(others).clamp(min=0.0)
    scale = ((high - low) / STEPS).clamp(min=TINIEST)
    zero = torch.round(-low / scale)
    spread = [-1 if each == axis else 1 for each in range(x.dim())]
    steps = torch.round(x / scale.view(spread)) + zero.view(spread)
    return steps.clamp(0, STEPS).to(torch.uint8), scale, zero.to(torch.uint8)


@pack_bytes.register_fake
def _(x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    channels = (x.shape[axis],)
    return (
        x.new_empty(x.shape, dtype=torch.uint8),
        x.new_empty(channels),
        x.new_empty(channels, dtype=torch.uint8),
    )


@torch.library.custom_op("mobiletl::unpack_bytes", mutates_args=())
def unpack_bytes(kept: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    """What `pack_bytes` gave -> x^, float32."""
    spread = [-1 if each == axis else 1 for each in range(kept.dim())]
    # Through int32, where the difference of two bytes may be negative.
    steps = kept.to(torch.int32) - zero.to(torch.int32).view(spread)
    return steps.to(torch.float32) * scale.view(spread)


@unpack_bytes.register_fake
def _(kept: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return kept.new_empty(kept.shape, dtype=torch.float32)
