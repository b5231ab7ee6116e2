"""How parameters are written for the way between a board and the server.

    float32   as they are                                     4 bytes a number
    float16   what has changed, rounded to 16 bits            2 bytes a number
    int8      what has changed, in 8 bits and a scale for     1.016 bytes a number
              every 256 numbers

What rounding loses is not lost: a board adds it to what it sends the next time (error feedback,
Karimireddy et al., ICML 2019, arXiv 1901.09847). Towards the boards, which know no former round,
parameters go as they are, in float32 or, with either of the short codes, in float16.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Tensors

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"
ENCODINGS = (FLOAT32, FLOAT16, INT8)
BLOCK = 256
# An entry of this name has the scales of another one's blocks.
SCALES = "/scales"
_LARGEST_FLOAT16 = 65504.0
_STEPS = 127

# Arrays by name, of the types that are sent.
Sent = Dict[str, Any]


def downwards(tensors: Mapping[str, Floats], encoding: str) -> Sent:
    """Return what is sent to boards for `tensors`; what float16 cannot hold stays float32."""
    if encoding == FLOAT32:
        return dict(tensors)
    return {name: _halved(tensor) for name, tensor in tensors.items()}


def upwards(
    began: Tensors, ended: Tensors, left: Mapping[str, Floats], encoding: str
) -> tuple[Sent, Tensors]:
    """Return what a board sends of a round from `began` to `ended`, and what is left to send.

    `left` is what the board's last round has left; an entry that it lacks, or has in another shape,
    counts as zeros. All of `ended` are sent.
    """
    if encoding == FLOAT32:
        return dict(ended), {}
    sent: Sent = {}
    rest: Tensors = {}
    for name, tensor in ended.items():
        change = tensor - began[name]
        before = left.get(name)
        if before is not None and before.shape == change.shape:
            change = change + before
        if encoding == FLOAT16:
            sent[name] = _halved(change)
            rest[name] = change - sent[name].astype(np.float32)
        else:
            sent[name], sent[name + SCALES] = quantised(change)
            rest[name] = change - restored(sent[name], sent[name + SCALES])
    return sent, rest


def received(began: Tensors, sent: Sent, encoding: str) -> Tensors:
    """Return the parameters of which `upwards` made `sent`, for the `began` of its board."""
    if encoding == FLOAT32:
        return dict(sent)
    tensors: Tensors = {}
    for name, array in sent.items():
        if name.endswith(SCALES):
            continue
        if encoding == INT8:
            change = restored(array, sent[name + SCALES])
        else:
            change = array.astype(np.float32)
        tensors[name] = began[name] + change
    return tensors


def quantised(change: Floats) -> tuple[Any, Floats]:
    """Return i8 of the shape of `change` and one f32 scale for each block of its numbers."""
    padded = _blocks(change)
    scales = np.abs(padded).max(axis=1) / np.float32(_STEPS)
    steps = np.divide(padded, scales[:, None], out=np.zeros_like(padded), where=scales[:, None] > 0)
    small = np.rint(steps).astype(np.int8).reshape(-1)[: change.size].reshape(change.shape)
    return small, scales


def restored(small: Any, scales: Floats) -> Floats:
    """Return f32 of the shape of `small`, up to rounding what `quantised` was given."""
    wide: Floats = _blocks(small.astype(np.float32)) * scales[:, None]
    return wide.reshape(-1)[: small.size].reshape(small.shape)


def blocks_of(size: int) -> int:
    """Return how many blocks `size` numbers make."""
    return -(-size // BLOCK)


def sent_bytes(sent: Sent) -> int:
    """Return how many bytes the numbers of `sent` are, names and frames not counted."""
    return sum(int(array.nbytes) for array in sent.values())


def _blocks(values: Floats) -> Floats:
    padded = np.zeros((blocks_of(values.size), BLOCK), np.float32)
    padded.reshape(-1)[: values.size] = values.reshape(-1)
    return padded


def _halved(tensor: Floats) -> Any:
    if tensor.size and not float(np.abs(tensor).max()) <= _LARGEST_FLOAT16:
        return tensor
    return tensor.astype(np.float16)
