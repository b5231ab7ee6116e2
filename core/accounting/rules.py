"""What each type of layer stores, computes and needs beside it: the tables behind `account.py`.

Stored for the backward pass, per layer with n elements in a map (Figure 1 of MobileTL):

| layer | trained exactly | under MobileTL |
|---|---|---|
| convolution, linear | its input, 4n bytes, if the weight is trained | the same |
| norm | its input, 4n bytes, if the scale is trained | nothing: only the shift is |
| ReLU, ReLU6 | which of its 2 or 3 pieces: 1 or 2 bits (1 under the policy `one-bit`) | 1 bit |
| hard-swish | its input, 4n bytes | 1 bit |
| squeeze-excite | map and scale, inputs of the product, and what its layers store | the same |
| pooling, resize, sum | nothing | nothing |

Under the policy `eight-bit`, where 4n bytes of a map stand above it is n bytes and 5 for each
channel, but for the input of the whole top, which is held by whoever calls.

Activations and squeeze-excite store nothing where nothing below them is trained. A norm that
computes its statistics and has a frozen scale stores nothing either, as the papers have it: its
exact backward pass does need its input, and the sum on paper is too small by those 4n bytes.

FLOPs: 2 per multiply-add of convolutions and linear layers; elsewhere every addition,
multiplication, comparison and clamp counts as one, as the layer's equations are written: a norm
that computes statistics by algorithm 1 of Ioffe and Szegedy (2015) and the six equations of its
backward pass. Where nothing below a layer is trained, it owes no gradient of its input; a frozen
layer owes no other. MobileTL does not say how it counted; that training adds 3 per element to a
norm's forward pass follows from its figures, and whether a clamp is one operation or two (2 % of
the forward pass) was settled by them.

The workspace of a layer is what the papers' profiler counts beside what is stored (published with
TinyTL): input and output of a convolution, of a depthwise one a single output channel, the input of
anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from mobiletl.core.backbones.inverted_residual import InvertedResidual, SqueezeExcitation
from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layer_walk import Visit
from mobiletl.core.layers.frozen import Shift
from mobiletl.core.layers.positive_slope import PositiveHardswish, PositiveReLU, PositiveReLU6
from mobiletl.core.layers.shift_norm import ShiftOnlyNorm
from mobiletl.core.methods.attention_adaptor import AttendedRow, AttentionAdaptor
from mobiletl.core.methods.lite_residual import StandardisedConv2d
from mobiletl.core.methods.side_branch import HalvedMean
from mobiletl.core.saved.policy import FLOAT_BITS, StandIn, kept_bits

FLOPS_PER_MAC = 2

# Per element. Normalising takes 4 with given statistics; computing them, 3 more.
NORM_FORWARD = 4
NORM_FORWARD_TRAINING = 7
NORM_BACKWARD_TRAINING = 15
# With given statistics: the input's gradient 1, the shift's 1, the scale's 4.
NORM_BACKWARD, SHIFT_BACKWARD, SCALE_BACKWARD = 1, 1, 4
# The mean over the map and the product; backward, the gradients of both and their sum.
SQUEEZE_FORWARD, SQUEEZE_BACKWARD = 2, 4
# A bilinear output is 4 products and 3 sums; backward, 4 products, each added to its place.
RESIZE_FORWARD, RESIZE_BACKWARD = 7, 8


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
    # Backward a product with a bit.
    PositiveReLU: Activation(FLOAT_BITS, forward=1, backward=1),
    PositiveReLU6: Activation(FLOAT_BITS, forward=1, backward=1),
    PositiveHardswish: Activation(FLOAT_BITS, forward=4, backward=1),
}


@dataclass(frozen=True)
class Work:
    """One layer for the whole batch: bits, FLOPs (those of the `macs` included) and elements.

    `part` is appended to the module's name.
    """

    component: str
    stored_bits: int = 0
    forward: int = 0
    backward: int = 0
    workspace: int = 0
    part: str = ""
    forward_macs: int = 0
    backward_macs: int = 0


def _kept_map(v: Visit) -> int:
    """Bits that the layer keeps of its input. Whoever calls holds that of the whole top."""
    return FLOAT_BITS * v.in_elements if v.reads_given else kept_bits(v.module, v.in_shape)


def _is_trained(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _convolution(v: Visit, conv: nn.Module | None = None, part: str = "") -> tuple[Work, ...]:
    layer = conv or v.module
    weight = layer.get_parameter("weight")
    bias = layer.bias
    assert bias is None or isinstance(bias, Tensor)
    macs = v.out_elements * math.prod(weight.shape[1:])
    backward_macs = macs * (int(weight.requires_grad) + int(v.needs_input_grad))
    added = 0 if bias is None else v.out_elements
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return (
        Work(
            "linear" if isinstance(layer, nn.Linear) else "convolution",
            _kept_map(v) * int(weight.requires_grad),
            FLOPS_PER_MAC * macs + added,
            FLOPS_PER_MAC * backward_macs + added * int(_is_trained(bias)),
            v.in_elements + v.out_elements // groups,
            part,
            macs,
            backward_macs,
        ),
    )


def _standardised(v: Visit) -> tuple[Work, ...]:
    """And the norm of every kernel, which is counted as one that computes its statistics is."""
    (work,) = _convolution(v)
    weight = v.module.get_parameter("weight")
    forward = work.forward + NORM_FORWARD_TRAINING * weight.numel()
    backward = NORM_BACKWARD_TRAINING * weight.numel() * int(weight.requires_grad)
    return (replace(work, forward=forward, backward=work.backward + backward),)


def _norm(v: Visit) -> tuple[Work, ...]:
    norm, n = v.module, v.in_elements
    scale, shift = norm.get_parameter("weight"), norm.get_parameter("bias")
    computes = norm.training or isinstance(norm, nn.GroupNorm)
    if computes and v.needs_input_grad:
        backward = NORM_BACKWARD_TRAINING
    else:
        backward = (
            NORM_BACKWARD * int(v.needs_input_grad)
            + SHIFT_BACKWARD * int(shift.requires_grad)
            + SCALE_BACKWARD * int(scale.requires_grad)
        )
    forward = NORM_FORWARD_TRAINING if computes else NORM_FORWARD
    stored = _kept_map(v) * int(scale.requires_grad)
    return (Work("norm", stored, forward * n, backward * n, n),)


def _shift(v: Visit) -> tuple[Work, ...]:
    """The scale is in the kernel before it: one addition, and a sum of the incoming gradient."""
    n = v.in_elements
    trained = int(v.module.get_parameter("bias").requires_grad)
    return (Work("norm", 0, n, SHIFT_BACKWARD * n * trained, n),)


def _activation(v: Visit) -> tuple[Work, ...]:
    """A stand-in computes what it stands for, and keeps what it says."""
    kind, bits = type(v.module), None
    if isinstance(v.module, StandIn):
        kind, bits = v.module.stands_for, v.module.saved_bits
    row = ACTIVATIONS[kind]
    grad = int(v.needs_input_grad)
    n = v.in_elements
    kept = n * (row.bits if bits is None else bits)
    if bits is None and row.bits == FLOAT_BITS:
        kept = _kept_map(v)
    return (Work("activation", kept * grad, row.forward * n, row.backward * n * grad, n),)


def _squeeze_excite(v: Visit) -> tuple[Work, ...]:
    """Mean and product; the layers between are counted by themselves."""
    grad = int(v.needs_input_grad)
    n, scale = v.in_elements, v.in_shape[0] * v.in_shape[1]
    stored = (_kept_map(v) + FLOAT_BITS * scale) * grad
    backward = SQUEEZE_BACKWARD * n * grad
    return (Work("squeeze-excite", stored, SQUEEZE_FORWARD * n, backward, n, ".product"),)


def _residual(v: Visit) -> tuple[Work, ...]:
    assert isinstance(v.module, InvertedResidual)
    return (_sum(v, v.out_elements),) if v.module.residual else ()


def _sum(v: Visit, elements: int) -> Work:
    """Two branches of one input meet: outputs are added, backward their gradients of it."""
    return Work("sum", 0, elements, v.in_elements * int(v.needs_input_grad), part=".sum")


def _attended_row(v: Visit) -> tuple[Work, ...]:
    """The addend of a map, one per channel; backward, its sum over the map and over both readers
    of the input. The layers between are counted by themselves.
    """
    n = v.out_elements
    return (Work("sum", 0, n, n + v.in_elements * int(v.needs_input_grad), part=".sum"),)


def _joining(v: Visit) -> tuple[Work, ...]:
    """What TransferTop does with the output of a trained module beside one of its layers."""
    if v.joins is None:
        return ()
    elements = math.prod(v.joins)
    rows = [_sum(v, elements)]
    if v.out_shape[2:] not in ((1, 1), v.joins[2:]):
        rows.insert(0, _resize(v, elements))
    return tuple(rows)


def _resize(v: Visit, elements: int) -> Work:
    """Bilinear, of a map that is trained."""
    forward, backward = RESIZE_FORWARD * elements, RESIZE_BACKWARD * elements
    return Work("resize", 0, forward, backward, v.out_elements, ".resize")


def _pooling(v: Visit) -> tuple[Work, ...]:
    n = v.in_elements
    return (Work("pooling", 0, n, n * int(v.needs_input_grad), n),)


def _nothing(_v: Visit) -> tuple[Work, ...]:
    return ()


RULES: dict[type[nn.Module], Callable[[Visit], tuple[Work, ...]]] = {
    nn.Conv2d: _convolution,
    StandardisedConv2d: _standardised,
    nn.Linear: _convolution,
    nn.BatchNorm2d: _norm,
    nn.GroupNorm: _norm,
    Shift: _shift,
    ShiftOnlyNorm: _shift,
    **dict.fromkeys(ACTIVATIONS, _activation),
    SqueezeExcitation: _squeeze_excite,
    InvertedResidual: _residual,
    AttendedRow: _attended_row,
    AttentionAdaptor: _pooling,
    nn.AdaptiveAvgPool2d: _pooling,
    HalvedMean: _pooling,
    nn.Sequential: _nothing,
    nn.Identity: _nothing,
    nn.Flatten: _nothing,
    nn.Unflatten: _nothing,
}


def work_of(v: Visit) -> tuple[Work, ...]:
    """The rows of a module. Raises UnsupportedModel for a layer without a rule, which would be
    taken for free otherwise. A container is the sum of its layers: what one without a rule computes
    between them is not seen.
    """
    rule = _activation if isinstance(v.module, StandIn) else RULES.get(type(v.module))
    if rule is not None:
        return rule(v) + _joining(v)
    if next(v.module.children(), None) is None:
        raise UnsupportedModel(
            f"accounting has no rule for {type(v.module).__name__} ({v.name}); add one to "
            "core/accounting/rules.py"
        )
    return _joining(v)
