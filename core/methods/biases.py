"""ft-bias: every bias, the shift of every norm and the last layer; the backward pass is exact.

With weights and scales frozen, neither a convolution nor a norm needs its input for the backward
pass (Cai et al., NeurIPS 2020, section 3.1): what remains stored are the inputs of activations.
Norms stay in inference mode: their statistics belong to the frozen weights.
"""

from __future__ import annotations

from mobiletl.core.layers.frozen import freeze_all_but_shifts
from mobiletl.core.transfer import Transfer


def train_biases(transfer: Transfer) -> None:
    """Freeze all of the top but its shifts, its biases and the layer that gives the logits."""
    freeze_all_but_shifts(transfer.top.features)
    for name, parameter in transfer.top.named_parameters():
        parameter.requires_grad_(name.endswith(".bias"))
    transfer.top.get_submodule(transfer.top.classes_layer).requires_grad_(True)
