"""What goes into the inverted residual blocks of a network and what comes out, found by running it
on shapes alone: any module may be a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mobiletl.core.layer_walk import visits
from mobiletl.core.transfer import Transfer


@dataclass(frozen=True)
class BlockMap:
    """Block `name` maps [N,in_channels,in_size,in_size] to [N,out_channels,out_size,out_size]."""

    name: str
    in_channels: int
    in_size: int
    out_channels: int
    out_size: int

    @property
    def stride(self) -> int:
        """How many pixels become one, per axis."""
        return -(-self.in_size // self.out_size)

    @property
    def is_border(self) -> bool:
        """Whether a stage of the network begins here: other maps come out than went in."""
        return (self.in_channels, self.in_size) != (self.out_channels, self.out_size)


def block_maps(transfer: Transfer) -> tuple[BlockMap, ...]:
    """The blocks of the top in order, at the resolution of `transfer`; norms must be frozen."""
    size = transfer.resolution
    found, _ = visits(transfer.top, torch.empty(1, 3, size, size, device="meta"))
    shapes = {visit.name: (visit.in_shape, visit.out_shape) for visit in found}
    maps = []
    for name in transfer.block_names:
        (_, in_channels, in_size, _), (_, out_channels, out_size, _) = shapes[f"features.{name}"]
        maps.append(BlockMap(name, in_channels, in_size, out_channels, out_size))
    return tuple(maps)
