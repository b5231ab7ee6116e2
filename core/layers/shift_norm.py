"""The layers that MobileTL trains differently: norms of which only the shift moves.

Chiang et al., AAAI 2023, section "MobileTL": in a trained block the inner norms keep their scale
and statistics, d(loss)/d(shift) is a sum of the incoming gradient and needs no stored activation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.layers.positive_slope import POSITIVE


class ShiftOnlyNorm(nn.Module):
    """A batch norm in inference mode whose `bias`, the shift, is the only parameter.

    Keeps a batch norm's state-dict keys: `weight`, `running_mean` and `running_var` as buffers.
    With s = weight / sqrt(running_var + eps): y = x * s + (bias - running_mean * s), x [N,C,H,W].
    """

    weight: Tensor
    running_mean: Tensor
    running_var: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a norm without running statistics has nothing to freeze")
        self.bias = nn.Parameter(norm.bias.detach().clone())
        self.register_buffer("weight", norm.weight.detach().clone())
        self.register_buffer("running_mean", norm.running_mean.clone())
        self.register_buffer("running_var", norm.running_var.clone())
        scale = self.weight * torch.rsqrt(self.running_var + norm.eps)
        # Both are constants of training, computed once so that a traced graph holds two tensors.
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("offset", self.running_mean * scale, persistent=False)

    @property
    def shift(self) -> Tensor:
        """What is added per channel, [C]."""
        return self.bias - self.offset

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N,C,H,W] to [N,C,H,W]."""
        return x * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)


def is_conv_norm_activation(module: nn.Module) -> bool:
    """Whether `module` is a row of convolution, batch norm and an activation of `POSITIVE`."""
    if not isinstance(module, nn.Sequential) or len(module) != 3:
        return False
    conv, norm, activation = module
    return (
        isinstance(conv, nn.Conv2d)
        and isinstance(norm, nn.BatchNorm2d)
        and type(activation) in POSITIVE
    )


class ShiftNormActivation(nn.Sequential):
    """Convolution, shift-only norm, activation of positive slope; replaces a row of three.

    The frozen scale is multiplied into the kernel, norm(conv(x, W)) = conv(x, s W) + shift: the
    chain rule through s W gives W's gradient exactly, and no pass over the activation is spent
    on the norm in either direction.
    """

    def __init__(self, block: nn.Sequential) -> None:
        if not is_conv_norm_activation(block):
            known = ", ".join(activation.__name__ for activation in POSITIVE)
            raise TypeError(f"expected a block of convolution, batch norm and activation ({known})")
        conv, norm, activation = block
        assert isinstance(norm, nn.BatchNorm2d)
        super().__init__(conv, ShiftOnlyNorm(norm), POSITIVE[type(activation)]())
        self.activation_type = type(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N,C,H,W] to [N,C',H/stride,W/stride], rounded up."""
        conv, norm, activation = self
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, ShiftOnlyNorm)
        kernel = conv.weight * norm.scale.view(-1, 1, 1, 1)
        a = functional.conv2d(x, kernel, norm.shift, conv.stride, conv.padding, 1, conv.groups)
        y: Tensor = activation(a)
        return y
