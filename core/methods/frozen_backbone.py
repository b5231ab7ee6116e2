"""A backbone that is frozen while gradients pass through it.

Its norms stay batch norms in inference mode, with the statistics they were trained with. (TinyTL
replaces them by group norms and brings weights pretrained that way; weights pretrained with batch
norms compute something else under group norms.) Their scales are multiplied into the kernels, so
that for the backward pass a frozen block of convolutions keeps nothing but what its activations
need: under the policy `one-bit` one bit per element for ReLU and ReLU6, its input for hard swish.
Squeeze-excite keeps both factors of its product.
"""

from __future__ import annotations

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.frozen import freeze_all_but_shifts
from mobiletl.core.transfer import TransferTop, fold_norms, trained_norms


def freeze_backbone(top: TransferTop, train_biases: bool) -> None:
    """Freeze all but the layer that gives the logits, or all but that and every shift and bias.

    Raises UnsupportedModel for a norm without a convolution before it in an `nn.Sequential`.
    """
    top.features.eval()
    if train_biases:
        freeze_all_but_shifts(top.features)
        for name, _ in trained_norms(top.features):
            raise UnsupportedModel(
                f"the norm {name} can't be frozen: no convolution comes before it in an "
                "nn.Sequential; put the two into one, or choose ft-all"
            )
    else:
        fold_norms(top.features)
    for name, parameter in top.named_parameters():
        parameter.requires_grad_(train_biases and name.endswith(".bias"))
    top.get_submodule(top.classes_layer).requires_grad_(True)
