"""What each type of layer stores, computes and needs beside it: the tables behind `accounting.py`.

Stored for the backward pass, per layer with n elements in a map (Figure 1 of MobileTL):

| layer | trained exactly | under MobileTL |
|---|---|---|
| convolution, linear | its input, 4n bytes, if the weight is trained | the same |
| norm | its input, 4n bytes, if the scale is trained | nothing: only the shift is |
| ReLU, ReLU6 | which of its 2 or 3 pieces: 1 or 2 bits | 1 bit |
| hard-swish | its input, 4n bytes | 1 bit |
| squeeze-excite | map and scale, inputs of the product, and what its layers store | the same |

FLOPs: 2 per multiply-add of convolutions and linear layers; elsewhere every addition,
multiplication, comparison and clamp counts as one, as the layer's equations are written: a norm
that computes statistics by algorithm 1 of Ioffe and Szegedy (2015) and the six equations of its
backward pass. Where nothing below a layer is trained, it owes no gradient of its input. MobileTL
does not say how it counted; that training adds 3 per element to a norm's forward pass follows from
its figures, and whether a clamp is one operation or two (2 % of the forward pass) was settled by
them.

The workspace of a layer is what the papers' profiler counts beside what is stored (published with
TinyTL): input and output of a convolution, of a depthwise one a single output channel, the input of
anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.inverted_residual import InvertedResidual, SqueezeExcitation
from mobiletl.core.layer_walk import Visit
from mobiletl.core.layers import ShiftNormActivation, ShiftOnlyNorm

FLOAT_BITS = 32
MASK_BITS = 1
FLOPS_PER_MAC = 2

# Per element. Normalising takes 4 with given statistics; computing them, 3 more.
NORM_FORWARD = 4
NORM_FORWARD_TRAINING = 7
NORM_BACKWARD_TRAINING = 15
# With given statistics: the input's gradient 1, the shift's 1, the scale's 4.
NORM_BACKWARD, SHIFT_BACKWARD, SCALE_BACKWARD = 1, 1, 4
# The mean over the map and the product; backward, the gradients of both and their sum.
SQUEEZE_FORWARD, SQUEEZE_BACKWARD = 2, 4


@dataclass(frozen=True)
class Activation:
    """Bits stored and FLOPs per element."""

    bits: int
    forward: int
    backward: int


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: Activation(bits=1, forward=1, backward=1),
    nn.ReLU6: Activation(bits=2, forward=1, backward=1),
    nn.Hardswish: Activation(FLOAT_BITS, forward=4, backward=5),
    nn.Hardsigmoid: Activation(bits=2, forward=3, backward=1),
}


@dataclass(frozen=True)
class Work:
    """One layer for the whole batch; `part` is appended to the module's name."""

    stored_bits: int = 0
    forward: int = 0
    backward: int = 0
    workspace: int = 0
    part: str = ""


def _is_trained(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _convolution(v: Visit, conv: nn.Module | None = None, part: str = "") -> tuple[Work, ...]:
    layer = conv or v.module
    weight = layer.get_parameter("weight")
    bias = layer.bias
    assert bias is None or isinstance(bias, Tensor)
    flops = FLOPS_PER_MAC * v.out_elements * math.prod(weight.shape[1:])
    added = 0 if bias is None else v.out_elements
    wanted = int(weight.requires_grad) + int(v.needs_input_grad)
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return (
        Work(
            FLOAT_BITS * v.in_elements * int(weight.requires_grad),
            flops + added,
            flops * wanted + added * int(_is_trained(bias)),
            v.in_elements + v.out_elements // groups,
            part,
        ),
    )


def _norm(v: Visit) -> tuple[Work, ...]:
    norm = v.module
    scale, shift = norm.get_parameter("weight"), norm.get_parameter("bias")
    stored = FLOAT_BITS * v.in_elements * int(scale.requires_grad)
    if norm.training:
        backward = NORM_BACKWARD_TRAINING
        return (
            Work(
                stored,
                NORM_FORWARD_TRAINING * v.in_elements,
                backward * v.in_elements,
                v.in_elements,
            ),
        )
    backward = (
        NORM_BACKWARD * int(v.needs_input_grad)
        + SHIFT_BACKWARD * int(shift.requires_grad)
        + SCALE_BACKWARD * int(scale.requires_grad)
    )
    return (Work(stored, NORM_FORWARD * v.in_elements, backward * v.in_elements, v.in_elements),)


def _activation(v: Visit) -> tuple[Work, ...]:
    row = ACTIVATIONS[type(v.module)]
    grad = int(v.needs_input_grad)
    n = v.in_elements
    return (Work(row.bits * n * grad, row.forward * n, row.backward * n * grad, n),)


def _shift_norm_activation(v: Visit) -> tuple[Work, ...]:
    """The scale is in the kernel: the norm adds the shift forward and sums its gradient back."""
    assert isinstance(v.module, ShiftNormActivation)
    conv, norm = v.module
    assert isinstance(norm, ShiftOnlyNorm)
    n = v.out_elements
    forward = ACTIVATIONS[v.module.activation_type].forward
    trained = int(norm.bias.requires_grad)
    return (
        *_convolution(v, conv, ".0"),
        Work(0, n, SHIFT_BACKWARD * n * trained, n, ".1"),
        Work(MASK_BITS * n, forward * n, n, n, ".2"),
    )


def _squeeze_excite(v: Visit) -> tuple[Work, ...]:
    """Mean and product; the layers between are counted by themselves."""
    grad = int(v.needs_input_grad)
    n, scale = v.in_elements, v.in_shape[0] * v.in_shape[1]
    stored = FLOAT_BITS * (n + scale) * grad
    return (Work(stored, SQUEEZE_FORWARD * n, SQUEEZE_BACKWARD * n * grad, n, ".product"),)


def _sum(v: Visit) -> tuple[Work, ...]:
    assert isinstance(v.module, InvertedResidual)
    n = v.out_elements * int(v.module.residual)
    return (Work(0, n, n * int(v.needs_input_grad), part=".sum"),) if n else ()


def _mean(v: Visit) -> tuple[Work, ...]:
    return (Work(0, v.in_elements, v.in_elements * int(v.needs_input_grad), v.in_elements),)


def _nothing(_v: Visit) -> tuple[Work, ...]:
    return ()


RULES: dict[type[nn.Module], Callable[[Visit], tuple[Work, ...]]] = {
    nn.Conv2d: _convolution,
    nn.Linear: _convolution,
    nn.BatchNorm2d: _norm,
    **dict.fromkeys(ACTIVATIONS, _activation),
    ShiftNormActivation: _shift_norm_activation,
    SqueezeExcitation: _squeeze_excite,
    InvertedResidual: _sum,
    nn.AdaptiveAvgPool2d: _mean,
    nn.Sequential: _nothing,
    nn.Identity: _nothing,
    nn.Flatten: _nothing,
    nn.Unflatten: _nothing,
}


def work_of(v: Visit) -> tuple[Work, ...]:
    """The rows of a module; containers have none. Raises UnsupportedModel for a layer without a
    rule, which would be taken for free otherwise.
    """
    rule = RULES.get(type(v.module))
    if rule is not None:
        return rule(v)
    if next(v.module.children(), None) is None:
        raise UnsupportedModel(
            f"accounting has no rule for {type(v.module).__name__} ({v.name}); add one to "
            "core/accounting_rules.py"
        )
    return ()
