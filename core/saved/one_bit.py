"""Activations with their exact backward pass, of which one bit per element is stored.

For frozen blocks that gradients pass through: a frozen convolution needs its kernel only, so that
these bits are all such a block keeps. Hard swish has no such form: its slope is a function of its
input, which it goes on storing.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mobiletl.core.layers.masks import exact_relu6, masked_relu


class OneBitReLU(nn.Module):
    """max(x, 0), exact in both directions. Maps any shape to the same."""

    def forward(self, x: Tensor) -> Tensor:
        return masked_relu(x)


class OneBitReLU6(nn.Module):
    """clamp(x, 0, 6), exact in both directions. Maps any shape to the same."""

    def forward(self, x: Tensor) -> Tensor:
        return exact_relu6(x)


# What stands in for an activation: the same values, the same gradients.
ONE_BIT: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.ReLU: OneBitReLU,
    nn.ReLU6: OneBitReLU6,
}


def store_one_bit(module: nn.Module) -> None:
    """Replace every activation inside `module` that `ONE_BIT` has a stand-in for."""
    for name, child in module.named_children():
        replacement = ONE_BIT.get(type(child))
        if replacement is None:
            store_one_bit(child)
        else:
            setattr(module, name, replacement())
