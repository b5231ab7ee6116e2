"""one-bit: of an activation's input the bit is kept that its slope is a function of.

That is so for ReLU and ReLU6, and for whatever MobileTL trains with the slope `1[a >= 0]`. Hard
swish with its exact slope has no such form: it goes on keeping its input. Values and gradients are
those of the layers they stand in for, but that an exact slope at a kink is 1 where PyTorch says 0.
"""

from __future__ import annotations

from torch import Tensor, nn

from mobiletl.core.layers.masks import exact_relu6, masked_hardswish, masked_relu, masked_relu6
from mobiletl.core.layers.positive_slope import PositiveHardswish, PositiveReLU, PositiveReLU6
from mobiletl.core.saved.policy import Saved, StandIn


class OneBitReLU(StandIn):
    """max(x, 0), exact in both directions. Maps any shape to the same."""

    stands_for = nn.ReLU
    saved_bits = 1

    def forward(self, x: Tensor) -> Tensor:
        return masked_relu(x)


class OneBitReLU6(StandIn):
    """clamp(x, 0, 6), exact in both directions. Maps any shape to the same."""

    stands_for = nn.ReLU6
    saved_bits = 1

    def forward(self, x: Tensor) -> Tensor:
        return exact_relu6(x)


class OneBitPositiveReLU(StandIn):
    """max(x, 0) forward, `grad * 1[x >= 0]` backward. Maps any shape to the same."""

    stands_for = PositiveReLU
    saved_bits = 1

    def forward(self, x: Tensor) -> Tensor:
        return masked_relu(x)


class OneBitPositiveReLU6(StandIn):
    """clamp(x, 0, 6) forward, `grad * 1[x >= 0]` backward. Maps any shape to the same."""

    stands_for = PositiveReLU6
    saved_bits = 1

    def forward(self, x: Tensor) -> Tensor:
        return masked_relu6(x)


class OneBitPositiveHardswish(StandIn):
    """x clamp(x + 3, 0, 6) / 6 forward, `grad * 1[x >= 0]` backward. Maps any shape to the same."""

    stands_for = PositiveHardswish
    saved_bits = 1

    def forward(self, x: Tensor) -> Tensor:
        return masked_hardswish(x)


ONE_BIT = Saved(
    "one-bit",
    "one bit of an activation's input, packed into bytes, where its slope needs no more",
    {
        kind.stands_for: kind
        for kind in (
            OneBitReLU,
            OneBitReLU6,
            OneBitPositiveReLU,
            OneBitPositiveReLU6,
            OneBitPositiveHardswish,
        )
    },
)
