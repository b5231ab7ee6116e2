"""eight-bit: of the map that a layer is called with, bytes are kept where its backward pass needs
the map: inputs of convolutions, norms, squeeze-excite, hard swish. Activations keep one bit.

It is a matter of what PyTorch saves and not of what layers compute. While a module runs, whatever
is saved that lies in the memory of the module's own input is saved as `pack_bytes` of it, and comes
back as `unpack_bytes`. Kernels, scales and masks are no input of a module and stay what they are,
so that the gradients of inputs are exact; gradients of kernels and of norms are those of the
rounded map. This holds for any layer of any method, a person's own included. These stay floats:

- the input of the whole top: whoever calls holds it, a second form of it would be more memory;
- what is no map: vectors, and maps of one pixel, of which the scales would be as large;
- what a module computes inside and hands to no other one.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from mobiletl.core.layers import bytes as _operators  # noqa: F401  registers the operators
from mobiletl.core.saved.one_bit import ONE_BIT
from mobiletl.core.saved.policy import FLOAT_BITS, Saved, mark_kept_bits

BITS = 8
# Of a channel: its scale and its zero.
CHANNEL_BITS = FLOAT_BITS + 8
CHANNELS = 1
Packed = tuple[Tensor, Tensor, Tensor]


def is_kept_in_bytes(shape: torch.Size | tuple[int, ...]) -> bool:
    """Whether a float of that shape, [N,C,H,W], is a map of more than one pixel."""
    return len(shape) == 4 and tuple(shape[2:]) != (1, 1)


def bits_of_map(shape: tuple[int, ...]) -> int:
    """What is kept of a float tensor of that shape that a layer needs."""
    elements = math.prod(shape)
    if not is_kept_in_bytes(shape):
        return FLOAT_BITS * elements
    return BITS * elements + CHANNEL_BITS * shape[CHANNELS]


def keep_inputs_in_bytes(top: nn.Module) -> None:
    """Let every module of `top` keep bytes of its input."""
    keeper = _Keeper()
    for module in top.modules():
        module.register_forward_pre_hook(keeper.enter)
        module.register_forward_hook(keeper.leave, always_call=True)
        mark_kept_bits(module, bits_of_map)


class _Keeper:
    """Follows the modules that are running: the innermost one decides what is packed."""

    def __init__(self) -> None:
        self._running: list[Any] = []
        self._held: Tensor | None = None
        # Two layers that read one map share its bytes.
        self._packed: Any = WeakTensorKeyDictionary()

    def enter(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        if not self._running:
            self._held = x
        hooks = torch.autograd.graph.saved_tensors_hooks(partial(self._pack, x), _unpack)
        hooks.__enter__()
        self._running.append(hooks)

    def leave(self, _module: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        self._running.pop().__exit__()
        if not self._running:
            self._held, self._packed = None, WeakTensorKeyDictionary()

    def _pack(self, x: Tensor | None, saved: Tensor) -> Tensor | Packed:
        if x is None or x is self._held or not _is_map_in(x, saved):
            return saved
        if x not in self._packed:
            self._packed[x] = torch.ops.mobiletl.pack_bytes.default(saved, CHANNELS)
        packed: Packed = self._packed[x]
        return packed


def _is_map_in(x: Tensor, saved: Tensor) -> bool:
    same_memory = saved.untyped_storage()._cdata == x.untyped_storage()._cdata
    return same_memory and saved.dtype == torch.float32 and is_kept_in_bytes(saved.shape)


def _unpack(kept: Tensor | Packed) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    x: Tensor = torch.ops.mobiletl.unpack_bytes.default(*kept, CHANNELS)
    return x


EIGHT_BIT = Saved(
    "eight-bit",
    "8 bits of what layers need of their input maps, scaled by channel; one bit for activations",
    ONE_BIT.stand_ins,
    keep_inputs_in_bytes,
)
