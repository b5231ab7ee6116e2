"""Additive attention over the channels of a frozen block; see docs/methods/da3.md.

Letters: N pictures, C channels in, C' channels out, H x W the height and width of a map.

With m(x) [N,C] the means of the block's input and W, b its frozen first convolution and norm:

    y = activation(W x + b + U relu(V m(x) + v) + u)

What multiplies is kept for the backward pass, what is added is not: of the adaptor m(x) and the
hidden vector are stored, of the block nothing more than without. An addend below all values of a
channel makes the activation 0 there: additive attention closes channels as a product would, and
says so before the convolution has run (`open_channels`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import make_divisible
from mobiletl.core.saved.policy import KeepsItsOwn

REDUCTION = 4
# Where a channel's pre-activation is at or below this, its activation is 0.
CLOSED_AT: dict[type[nn.Module], float] = {nn.ReLU: 0.0, nn.ReLU6: 0.0, nn.Hardswish: -3.0}
# How many standard deviations above its mean a channel is expected to reach.
REACH = 3.0


class AttentionAdaptor(KeepsItsOwn):
    """Maps [N,C,H,W] to one addend per channel, [N,C',1,1]; at first 0."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = make_divisible(in_channels / REDUCTION)
        self.reduce = nn.Linear(in_channels, hidden)
        self.activation = nn.ReLU()
        self.expand = nn.Linear(hidden, out_channels)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: Tensor) -> Tensor:
        means = torch.mean(x, dim=(2, 3))
        addend: Tensor = self.expand(self.activation(self.reduce(means)))
        return addend.view(-1, addend.shape[1], 1, 1)


class AttendedRow(nn.Sequential):
    """Convolution, what is left of its norm, activation, adaptor; replaces a row of the first
    three. Maps [N,C,H,W] to [N,C',H/stride,W/stride], rounded up.

    `mean` and `spread` [C'] are the norm's shift and absolute scale, that is, mean and standard
    deviation of its output over the pictures it was pretrained on. `closed_at` is the activation's
    row of `CLOSED_AT`.
    """

    mean: Tensor
    spread: Tensor
    adaptor: AttentionAdaptor

    def __init__(self, row: nn.Sequential, mean: Tensor, spread: Tensor, closed_at: float) -> None:
        conv, norm, activation = row
        assert isinstance(conv, nn.Conv2d)
        super().__init__(conv, norm, activation)
        self.adaptor = AttentionAdaptor(conv.in_channels, conv.out_channels)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("spread", spread, persistent=False)
        self.closed_at = closed_at

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, activation, adaptor = self
        y: Tensor = activation(norm(conv(x)) + adaptor(x))
        return y

    def open_channels(self, x: Tensor, reach: float = REACH) -> Tensor:
        """Which channels of [N,C,H,W] can come out above 0: bool [N,C'].

        A closed one takes its filter here and everything that reads it with it. It is an estimate,
        from statistics of the pretraining: a channel may go further than `reach` deviations, and
        skipping it then changes the result.
        """
        addend: Tensor = self.adaptor(x)
        return self.mean + reach * self.spread + addend.flatten(1) > self.closed_at
