"""MobileTL (Chiang et al., AAAI 2023): shift-only inner norms, and activations of positive slope.

In each trained block: convolutions as usual; each norm with an activation behind it trains its
shift only, and the activation's slope is 1[a >= 0], of which the policy `one-bit` keeps one bit per
element; the last norm of the block trains scale,
shift and statistics; squeeze-excite and the classifier keep their exact backward pass. The paper
leaves open how the head convolution's norm is treated. It sits before an activation as inner norms
do and its map is the widest of the top, so here it is one of them.
"""

from __future__ import annotations

from torch import nn

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.positive_slope import POSITIVE
from mobiletl.core.layers.shift_norm import ShiftNormActivation, is_conv_norm_activation
from mobiletl.core.methods.exact import train_exactly
from mobiletl.core.transfer import Transfer


def train_shifts(transfer: Transfer) -> None:
    """Replace every convolution-norm-activation of the top; the norms left are block ends.

    Raises UnsupportedModel for a block without one: the method would save nothing there.
    """
    for name in transfer.block_names:
        _require_rows(name, transfer.top.features[name])
    _replace(transfer.top)
    train_exactly(transfer)


def _require_rows(name: str, block: nn.Module) -> None:
    if any(is_conv_norm_activation(module) for module in block.modules()):
        return
    leaves = [type(m).__name__ for m in block.modules() if not any(m.children())]
    known = ", ".join(activation.__name__ for activation in POSITIVE)
    raise UnsupportedModel(
        f"block {name} is not recognised: found {', '.join(dict.fromkeys(leaves))}, expected an "
        f"nn.Sequential of Conv2d, BatchNorm2d and one of {known}; try as_rows "
        "(docs/own-network.md), or --method ft-blocks"
    )


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and is_conv_norm_activation(child):
            setattr(module, name, ShiftNormActivation(child))
        else:
            _replace(child)
