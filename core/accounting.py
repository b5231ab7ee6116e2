"""Paper accounting: activations stored for the backward pass, computed from shapes alone.

These are the sums of Figure 1 of MobileTL (Chiang et al., AAAI 2023); 1 MB is 1e6 bytes. Nothing
here is measured, and a process needs more: what a bundle needs is in its memory plan. Figures of
this kind never share a column with planned or measured ones.

Rules of the figure, per layer of an inverted residual block with n elements in a map:

| layer | exact training (vanilla) | MobileTL |
|---|---|---|
| convolution, linear | its input, 4n bytes | the same |
| inner norm | its input, 4n bytes | nothing: only the shift is trained |
| last norm | its input, 4n bytes | the same |
| ReLU, ReLU6 | which of its 2 or 3 pieces: 1 or 2 bits | 1 bit |
| hard-swish | its input, 4n bytes | 1 bit |
| squeeze-excite | see `_squeeze_excite` | the same |

The statistics of a norm (two numbers per channel) and the loss are left out, as in the figure.
The same rules give the paper's 23.1, 35.9 and 129.7 MB for 3 blocks, 5 blocks and all of
MobileNetV3-Small.

Letters: N pictures in a batch, C channels, H x W the height and width of a map.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

FLOAT_BITS = 32


class Activation(Enum):
    """Activation functions; the value is what exact training stores, in bits per element."""

    RELU = 1
    RELU6 = 2
    HARD_SWISH = FLOAT_BITS


MASK_BITS = 1
HARD_SIGMOID_BITS = 2


@dataclass(frozen=True)
class Component:
    """One row: what a layer stores for its backward pass, in bytes for the whole batch."""

    name: str
    bytes_vanilla: int
    bytes_mobiletl: int


@dataclass(frozen=True)
class BlockShape:
    """An inverted residual block: [N,C,H,W] to [N,C',H/stride,W/stride].

    There is no expand convolution where `hidden_channels` equals `in_channels`, and no
    squeeze-excite where `squeeze_channels` is None. `height` and `width` are the input's.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    height: int
    width: int
    stride: int = 1
    activation: Activation = Activation.RELU6
    squeeze_channels: int | None = None

    @property
    def in_pixels(self) -> int:
        """H * W of the input."""
        return self.height * self.width

    @property
    def out_pixels(self) -> int:
        """H * W of the output; the depthwise padding makes it ceil(side / stride) each way."""
        return -(-self.height // self.stride) * -(-self.width // self.stride)


def _bytes(elements: int, bits: int = FLOAT_BITS) -> int:
    return -(-elements * bits // 8)


def _same(name: str, size: int) -> Component:
    return Component(name, size, size)


def _inner_norm_and_activation(
    name: str, elements: int, activation: Activation
) -> tuple[Component, Component]:
    """Norm with a trained shift only, then the activation: the two rows MobileTL shrinks."""
    return (
        Component(f"{name}.norm", _bytes(elements), 0),
        Component(
            f"{name}.activation",
            _bytes(elements, activation.value),
            _bytes(elements, MASK_BITS),
        ),
    )


def _squeeze_excite(shape: BlockShape, squeeze_channels: int, batch: int) -> Component:
    """Squeeze-excite, trained exactly by both methods; 0.95 MB in the figure.

    The figure gives the sum only. This reading agrees with it: the map and the scale (inputs of
    the product), the inputs of both 1x1 convolutions, the pieces of ReLU and hard sigmoid.
    """
    hidden, squeezed = batch * shape.hidden_channels, batch * squeeze_channels
    product = _bytes(hidden * shape.out_pixels) + _bytes(hidden)
    convolutions = _bytes(hidden) + _bytes(squeezed)
    pieces = _bytes(squeezed, Activation.RELU.value) + _bytes(hidden, HARD_SIGMOID_BITS)
    return _same("squeeze_excite", product + convolutions + pieces)


def block_activations(shape: BlockShape, batch: int) -> tuple[Component, ...]:
    """Rows of Figure 1 for one trained block, in forward order."""
    hidden_before = batch * shape.hidden_channels * shape.in_pixels
    hidden_after = batch * shape.hidden_channels * shape.out_pixels
    rows: list[Component] = []
    if shape.hidden_channels != shape.in_channels:
        expand_input = batch * shape.in_channels * shape.in_pixels
        rows.append(_same("expand.conv", _bytes(expand_input)))
        rows.extend(_inner_norm_and_activation("expand", hidden_before, shape.activation))
    rows.append(_same("depthwise.conv", _bytes(hidden_before)))
    rows.extend(_inner_norm_and_activation("depthwise", hidden_after, shape.activation))
    if shape.squeeze_channels is not None:
        rows.append(_squeeze_excite(shape, shape.squeeze_channels, batch))
    rows.append(_same("project.conv", _bytes(hidden_after)))
    rows.append(_same("project.norm", _bytes(batch * shape.out_channels * shape.out_pixels)))
    return tuple(rows)


def conv_norm_activations(
    name: str, in_elements: int, out_elements: int, activation: Activation, batch: int
) -> tuple[Component, ...]:
    """Convolution, norm and activation outside of blocks, trained exactly by both methods.

    `in_elements` and `out_elements` count one picture's map, C * H * W.
    """
    return (
        _same(f"{name}.conv", _bytes(batch * in_elements)),
        _same(f"{name}.norm", _bytes(batch * out_elements)),
        _same(f"{name}.activation", _bytes(batch * out_elements, activation.value)),
    )


def linear_activations(name: str, in_features: int, batch: int) -> Component:
    """The input of a linear layer."""
    return _same(name, _bytes(batch * in_features))


def total(components: Iterable[Component]) -> Component:
    """The sum of the rows, named `total`."""
    rows = tuple(components)
    return Component(
        "total",
        sum(row.bytes_vanilla for row in rows),
        sum(row.bytes_mobiletl for row in rows),
    )
