"""Transfer by depthwise kernels: of each trained block the spatial filters, and the last layer.

A depthwise convolution has few weights and sees each channel by itself. Everything else is frozen,
and its norms are multiplied into the kernels before them, so that the backward pass keeps the
inputs of the depthwise convolutions and one bit per element for the activations.

    mobiletl export --model mbv2 --method examples/own_method/depthwise.py:depthwise --blocks 1
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.methods import Method, Reach
from mobiletl.core.saved import ONE_BIT
from mobiletl.core.transfer import Transfer, fold_norms


def train_depthwise_kernels(transfer: Transfer) -> None:
    """Freeze all of the top but its depthwise kernels and the layer that gives the logits."""
    top = transfer.top
    fold_norms(top.features.eval())
    top.requires_grad_(False)
    for name in transfer.block_names:
        for layer in top.features[name].modules():
            if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels:
                layer.weight.requires_grad_(True)
    top.get_submodule(top.classes_layer).requires_grad_(True)


depthwise = Method(
    "depthwise",
    "depthwise kernels of the top blocks, and the last layer",
    train_depthwise_kernels,
    Reach.BLOCKS,
    ONE_BIT,
)
