"""MobileTL (Chiang et al., AAAI 2023): shift-only inner norms and masked activations.

In each trained block: convolutions as usual; each norm with an activation behind it trains its
shift only, and the activation stores one bit per element; the last norm of the block trains scale,
shift and statistics; squeeze-excite and the classifier keep their exact backward pass. The paper
leaves open how the head convolution's norm is treated. It sits before an activation as inner norms
do and its map is the widest of the top, so here it is one of them.
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.layers import ShiftNormActivation, is_conv_norm_activation
from mobiletl.core.methods.exact import train_exactly
from mobiletl.core.transfer import Transfer


def train_shifts(transfer: Transfer) -> None:
    """Replace every convolution-norm-activation of the top; the norms left are block ends."""
    _replace(transfer.top)
    train_exactly(transfer)


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and is_conv_norm_activation(child):
            setattr(module, name, ShiftNormActivation(child))
        else:
            _replace(child)
