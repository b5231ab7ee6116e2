"""One rule per aten operator: the TorchScript expression that computes it.

A rule takes the graph node and its arguments as text. It may use what PyTorch 1.13 knows, nothing
newer: a file must load there. Most operators have had one schema since; those that were added or
renamed later have a rule of their own. The custom operators call the functions of `FUNCTIONS`,
which travel inside the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.layers.bytes import STEPS, TINIEST
from mobiletl.core.layers.masks import BITS_PER_BYTE
from mobiletl.export.tracing.separable import SEPARABLE

aten = torch.ops.aten
Rule = Callable[[fx.Node, Sequence[str]], str]

# Bit k of byte j is element k*m + j (core/layers/masks.py): eight contiguous rows of m elements,
# shifted and or-ed. `apply_mask_` writes over the gradient a row at a time, so that it needs one
# row of floats more, not a whole map; `apply_mask` is for a gradient that is spread over shared
# memory.
FUNCTIONS = """
def pack_mask(self, a: Tensor) -> Tensor:
    rows = torch.ge(a, 0.0).reshape(8, -1)
    packed = rows[0].to(torch.uint8)
    for k in range(1, 8):
        packed.bitwise_or_(torch.bitwise_left_shift(rows[k].to(torch.uint8), k))
    return packed

def apply_mask_(self, packed: Tensor, grad: Tensor) -> Tensor:
    rows = grad.view(8, -1)
    for k in range(8):
        rows[k].mul_(torch.bitwise_and(torch.bitwise_right_shift(packed, k), 1).to(grad.dtype))
    return grad

def apply_mask(self, packed: Tensor, grad: Tensor) -> Tensor:
    return self.apply_mask_(packed, grad.clone(memory_format=torch.contiguous_format))

def pack_bytes(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    low = torch.amin(x, [0, 2, 3]).clamp(max=0.0)
    high = torch.amax(x, [0, 2, 3]).clamp(min=0.0)
    scale = torch.div(high - low, {steps}).clamp(min={tiniest})
    zero = torch.round(torch.div(-low, scale))
    steps = torch.div(x, scale.view(1, -1, 1, 1))
    steps.round_().add_(zero.view(1, -1, 1, 1)).clamp_(0.0, {steps})
    return steps.to(torch.uint8), scale, zero.to(torch.uint8)

def unpack_bytes(self, kept: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    steps = kept.to(torch.float32)
    return steps.sub_(zero.view(1, -1, 1, 1)).mul_(scale.view(1, -1, 1, 1))
""".format(steps=float(STEPS), tiniest=TINIEST)


def _call(name: str) -> Rule:
    return lambda _node, args: f"torch.ops.aten.{name}({', '.join(args)})"


def _ones_like(node: fx.Node, args: Sequence[str]) -> str:
    return f"torch.ops.aten.ones_like({args[0]}, dtype={node.meta['val'].dtype})"


def _cast(node: fx.Node, args: Sequence[str]) -> str:
    return f"torch.ops.aten.to({args[0]}, {node.meta['val'].dtype})"


def _clone(node: fx.Node, args: Sequence[str]) -> str:
    layout = node.kwargs.get("memory_format", torch.preserve_format)
    return f"torch.ops.aten.clone({args[0]}, memory_format={layout})"


def _batch_norm(_node: fx.Node, args: Sequence[str]) -> str:
    """`_native_batch_norm_legit` is newer; both write the statistics they are given."""
    return f"torch.ops.aten.native_batch_norm({', '.join(args)})"


def _batch_norm_inference(_node: fx.Node, args: Sequence[str]) -> str:
    *tensors, momentum, eps = args
    return f"torch.ops.aten.native_batch_norm({', '.join(tensors)}, False, {momentum}, {eps})"


def _variance(node: fx.Node, args: Sequence[str]) -> str:
    """Since PyTorch 2.0 the correction may be a fraction; a whole number suits both."""
    given = node.kwargs.get("correction")
    correction = 1 if given is None else int(str(given))
    keepdim = bool(node.kwargs.get("keepdim"))
    axes = args[1] if len(args) > 1 else "None"
    options = f"correction={correction}, keepdim={keepdim}"
    return f"torch.ops.aten.var({args[0]}, {axes}, {options})"


def _separable(_node: fx.Node, args: Sequence[str]) -> str:
    x, rows, columns = args
    return f"torch.matmul({rows}, torch.matmul({x}, {columns}))"


def _pack_mask(node: fx.Node, args: Sequence[str]) -> str:
    _require_whole_bytes(node.args[0])
    return f"self.pack_mask({args[0]})"


def _in_bytes(function: str) -> Rule:
    def rule(_node: fx.Node, args: Sequence[str]) -> str:
        *tensors, axis = args
        assert axis == "1"
        return f"self.{function}({', '.join(tensors)})"

    return rule


def _require_whole_bytes(a: Any) -> None:
    """The eight rows of a mask are equally long for every N only then (`pack_mask` pads)."""
    per_picture = math.prod(s for s in a.meta["val"].shape if isinstance(s, int))
    if per_picture % BITS_PER_BYTE:
        raise UnsupportedModel(
            f"a masked activation has {per_picture} elements per picture, expected a multiple of "
            f"{BITS_PER_BYTE}; use a width whose channels are multiples of {BITS_PER_BYTE}"
        )


def is_getitem(node: fx.Node) -> bool:
    """Whether `node` picks one result of an operator that has several."""
    return getattr(node.target, "__name__", "") == "getitem"


# Same name and arguments from PyTorch 1.13 on.
_UNCHANGED = (
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.rsub.Scalar,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.div.Tensor,
    aten.div.Scalar,
    aten.minimum.default,
    aten.maximum.default,
    aten.neg.default,
    aten.abs.default,
    aten.sgn.default,
    aten.exp.default,
    aten.pow.Tensor_Scalar,
    aten.sigmoid.default,
    aten.sigmoid_backward.default,
    aten.sqrt.default,
    aten.rsqrt.default,
    aten.reciprocal.default,
    aten.eq.Tensor,
    aten.clamp.default,
    aten.relu.default,
    aten.threshold_backward.default,
    aten.hardtanh.default,
    aten.hardtanh_backward.default,
    aten.hardswish.default,
    aten.hardswish_backward.default,
    aten.hardsigmoid.default,
    aten.hardsigmoid_backward.default,
    aten.sum.dim_IntList,
    aten.sum.default,
    aten.mean.dim,
    aten.mean.default,
    aten.view.default,
    aten.expand.default,
    aten.unsqueeze.default,
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.constant_pad_nd.default,
    aten.stack.default,
    aten.cat.default,
    aten.convolution.default,
    aten.convolution_backward.default,
    aten.native_batch_norm_backward.default,
    aten.native_group_norm.default,
    aten.native_group_norm_backward.default,
    aten.avg_pool2d.default,
    aten.avg_pool2d_backward.default,
    aten._log_softmax.default,
    aten._log_softmax_backward_data.default,
    aten.cumsum.default,
    aten.argmax.default,
)

RULES: dict[Any, Rule] = {
    **{target: _call(target.overloadpacket.__name__) for target in _UNCHANGED},
    aten._unsafe_view.default: _call("view"),
    aten._native_batch_norm_legit.default: _batch_norm,
    aten._native_batch_norm_legit_no_training.default: _batch_norm_inference,
    aten.ones_like.default: _ones_like,
    aten.var.correction: _variance,
    SEPARABLE: _separable,
    aten._to_copy.default: _cast,
    aten.clone.default: _clone,
    torch.ops.mobiletl.pack_mask.default: _pack_mask,
    torch.ops.mobiletl.pack_bytes.default: _in_bytes("pack_bytes"),
    torch.ops.mobiletl.unpack_bytes.default: _in_bytes("unpack_bytes"),
    torch.ops.mobiletl.apply_mask.default: lambda _n, args: f"self.apply_mask({', '.join(args)})",
}

# Operators with a form that writes over one of its arguments: that argument's place, and the rule.
OVERWRITING: dict[Any, tuple[int, Rule]] = {
    aten.clamp.default: (0, _call("clamp_")),
    torch.ops.mobiletl.apply_mask.default: (
        1,
        lambda _n, args: f"self.apply_mask_({', '.join(args)})",
    ),
}
