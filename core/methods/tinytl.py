"""TinyTL (Cai et al., NeurIPS 2020): biases, lite residual modules, or both; weights are frozen.

The backbone's norms stay batch norms in inference mode and are not replaced by group norms: the
weights we have were pretrained with batch norms and compute something else under group norms. For
the same reason the lite modules start at random, not pretrained on ImageNet
as the authors' are. Everything else is in `frozen_backbone.py` and `lite_residual.py`.
"""

from __future__ import annotations

from mobiletl.core.methods.block_maps import block_maps
from mobiletl.core.methods.frozen_backbone import freeze_backbone
from mobiletl.core.methods.lite_residual import lite_residual
from mobiletl.core.methods.side_branch import fixed_seed
from mobiletl.core.transfer import Transfer


def train_every_bias(transfer: Transfer) -> None:
    """tinytl-b: every bias, the shift of every norm and the layer that gives the logits."""
    freeze_backbone(transfer.top, train_biases=True)


def train_lite_residuals(transfer: Transfer) -> None:
    """tinytl-l: lite residual modules and the layer that gives the logits."""
    freeze_backbone(transfer.top, train_biases=False)
    _add_lite_residuals(transfer)


def train_lite_residuals_and_biases(transfer: Transfer) -> None:
    """tinytl-lb: both. A module's last shift is frozen: the block's own does the same."""
    freeze_backbone(transfer.top, train_biases=True)
    _add_lite_residuals(transfer)
    for module in transfer.top.side.children():
        module.get_parameter("last_norm.bias").requires_grad_(False)


def _add_lite_residuals(transfer: Transfer) -> None:
    """Beside every block but the first, which belongs to the stem in the authors' code."""
    with fixed_seed():
        for block in block_maps(transfer)[1:]:
            transfer.top.side[block.name] = lite_residual(block)
