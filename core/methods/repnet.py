"""Rep-Net (Yang, Rakin, Fan, CVPR 2022): a chain of side modules beside a frozen backbone.

The first module reads the picture, each later one the input of its block, which earlier ones have
already added to; each adds to its block's output. Nothing is detached: gradients of early modules
come down through later frozen blocks, which store one bit per activation for it.

Trained: side modules (batch norms with batch statistics), linear layers and, with biases, every
bias and the shift of every norm. The backbone's norms stay in inference mode (in the released code
their statistics drift). The side convolutions are plain ones (those of the released code have
standardised kernels). docs/methods/repnet.md lists where the two differ.
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.backbones.inverted_residual import make_divisible
from mobiletl.core.methods.block_maps import BlockMap, block_maps
from mobiletl.core.methods.frozen_backbone import freeze_backbone
from mobiletl.core.methods.side_branch import HalvedMean, SideBranch, fixed_seed
from mobiletl.core.transfer import Transfer, count_no_batches

KERNEL, SMALL_KERNEL = 5, 3
# The largest map that gets the small kernel.
SMALL_MAP = 7
GROUPS = 2
PICTURE_CHANNELS = 3
NORM_EPS = 1e-3


def train_side_modules(transfer: Transfer) -> None:
    """repnet: side modules and linear layers."""
    freeze_backbone(transfer.top, train_biases=False)
    _add_side_modules(transfer)


def train_side_modules_and_biases(transfer: Transfer) -> None:
    """repnet-bias: and every bias and shift of the backbone."""
    freeze_backbone(transfer.top, train_biases=True)
    _add_side_modules(transfer)


def connected(blocks: tuple[BlockMap, ...]) -> tuple[BlockMap, ...]:
    """The blocks with a side module: the first of each stage and the last of all.

    A stage begins where width or resolution changes; what the very first block does to the width
    still belongs to the stem. For MobileNetV2, MobileNetV3-Large and ProxylessNAS this gives the
    six places of the released code, and six for the other backbones here.
    """
    first, *others = blocks
    starts = [first] if first.stride > 1 else []
    starts += [block for block in others if block.is_border]
    return tuple(starts) if blocks[-1] in starts else (*starts, blocks[-1])


def _add_side_modules(transfer: Transfer) -> None:
    top = transfer.top
    first, *others = connected(block_maps(transfer))
    with fixed_seed():
        # Half the size of the map that it is added to, as all the others.
        window = 2 * transfer.resolution // first.out_size
        top.picture_side[first.name] = _side_module(PICTURE_CHANNELS, window, 1, first)
        for block in others:
            top.side[block.name] = _side_module(block.in_channels, 2, GROUPS, block)
    count_no_batches(top)
    for layer in top.classifier.values():
        layer.requires_grad_(isinstance(layer, nn.Linear))


def _side_module(in_channels: int, window: int, groups: int, block: BlockMap) -> SideBranch:
    kernel = SMALL_KERNEL if block.out_size <= SMALL_MAP else KERNEL
    inner = make_divisible(in_channels)
    groups = groups if in_channels % groups == 0 else 1
    return SideBranch(
        HalvedMean(window),
        nn.Conv2d(in_channels, inner, kernel, 1, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(inner, NORM_EPS),
        nn.Conv2d(inner, block.out_channels, 1, bias=False),
        nn.BatchNorm2d(block.out_channels, NORM_EPS),
    )
