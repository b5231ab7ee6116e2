"""Frozen convolutions with the norm behind them, of which the shift may still be trained.

A frozen norm maps y to y * s + (b - o), s = weight / sqrt(running_var + eps), o = running_mean * s.
The scale s is multiplied into the frozen kernel once and for all, so that a step adds the shift
and does nothing else; d(loss)/d(b) is a sum of the incoming gradient.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval


class Shift(nn.Module):
    """What is left of a frozen norm once its scale is in the kernel: x + (bias - offset).

    `bias` keeps the norm's name in state dicts and is the only parameter; x is [N,C,H,W].
    """

    offset: Tensor

    def __init__(self, bias: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone())
        self.register_buffer("offset", offset.detach().clone(), persistent=False)

    @property
    def shift(self) -> Tensor:
        """What is added per channel, [C]."""
        return self.bias - self.offset

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift.view(1, -1, 1, 1)


class ShiftedSequential(nn.Sequential):
    """Rows of convolutions, shifts and other layers; a shift is handed to the convolution before it
    as a bias, which spares a pass over the map. Replaces an `nn.Sequential`, names and all.
    """

    def forward(self, x: Tensor) -> Tensor:
        layers = [*self, None]
        for layer, following in pairwise(layers):
            if isinstance(layer, nn.Conv2d) and isinstance(following, Shift):
                x = functional.conv2d(
                    x, layer.weight, following.shift, layer.stride, layer.padding, 1, layer.groups
                )
            elif layer is not None and not isinstance(layer, Shift):
                x = layer(x)
        return x


def freeze_all_but_shifts(module: nn.Module) -> None:
    """Replace every `nn.Sequential` of `module` that holds a norm behind a convolution.

    The shifts stay parameters; freezing the kernels is the caller's.
    """
    for name, child in module.named_children():
        freeze_all_but_shifts(child)
        if isinstance(child, nn.Sequential) and any(
            isinstance(layer, nn.BatchNorm2d) for layer in child
        ):
            setattr(module, name, _shifted(child))


def _shifted(sequence: nn.Sequential) -> ShiftedSequential:
    layers = dict(sequence.named_children())
    for (place, conv), (norm_place, norm) in pairwise(list(layers.items())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            folded = fuse_conv_bn_eval(conv.eval(), norm.eval())
            assert folded.bias is not None
            # fuse_conv_bn_eval gives the kernel times s and the bias b - o.
            layers[norm_place] = Shift(norm.bias, norm.bias - folded.bias)
            folded.bias = None
            layers[place] = folded
    shifted = ShiftedSequential()
    for place, layer in layers.items():
        shifted.add_module(place, layer)
    return shifted
