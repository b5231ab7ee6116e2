"""DA3 (Yang, Rakin, Fan, CVPR Workshops 2022): additive attention adaptors in frozen blocks.

No public source gives its equations. The abstract claims an additive attention adaptor learned
beside a frozen backbone, which needs no buffered activations and doubles as a dynamic gate for
inference. `attention_adaptor.py` is our derivation from that; docs/methods/da3.md says which
sentence is whose.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.shift_norm import is_conv_norm_activation
from mobiletl.core.methods.attention_adaptor import CLOSED_AT, AttendedRow
from mobiletl.core.methods.frozen_backbone import freeze_backbone
from mobiletl.core.methods.side_branch import fixed_seed
from mobiletl.core.transfer import Transfer


@dataclass(frozen=True)
class _Place:
    """The first row of a block, and what has to be known of it before its norm is folded."""

    name: str
    mean: Tensor
    spread: Tensor
    closed_at: float


def train_attention(transfer: Transfer) -> None:
    """An adaptor in each block, before its first activation, and the layer that gives the logits.

    Raises UnsupportedModel for a block without a row of convolution, batch norm and activation.
    """
    features = transfer.top.features
    places = [_place(name, features[name]) for name in transfer.block_names]
    freeze_backbone(transfer.top, train_biases=False)
    with fixed_seed():
        for place in places:
            row = features.get_submodule(place.name)
            assert isinstance(row, nn.Sequential)
            attended = AttendedRow(row, place.mean, place.spread, place.closed_at)
            parent, _, own = place.name.rpartition(".")
            setattr(features.get_submodule(parent), own, attended)
            attended.adaptor.requires_grad_(True)


def _place(block_name: str, block: nn.Module) -> _Place:
    for name, row in block.named_modules():
        if isinstance(row, nn.Sequential) and is_conv_norm_activation(row):
            _, norm, activation = row
            assert isinstance(norm, nn.BatchNorm2d)
            mean, spread = norm.bias.detach().clone(), norm.weight.detach().abs()
            full_name = f"{block_name}.{name}" if name else block_name
            return _Place(full_name, mean, spread, CLOSED_AT[type(activation)])
    known = ", ".join(kind.__name__ for kind in CLOSED_AT)
    raise UnsupportedModel(
        f"block {block_name} has no nn.Sequential of convolution, batch norm and activation "
        f"({known}) for an attention adaptor; try --method repnet"
    )
