"""onnxruntime-training's checkpoint, written without that package.

One FlatBuffer; the schema is published as onnxruntime/core/flatbuffers/schema/ort.fbs (Tensor) and
ort_training_checkpoint.fbs in release 1.19.2, from which the field numbers below are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Property = int | float | str

IDENTIFIER = b"ODTC"
VERSION = 2
FLOAT = 1
# The only group the runtime reads.
GROUP = "group0"
MOMENTA = ("momentum0", "momentum1")


@dataclass(frozen=True)
class Checkpoint:
    """Parameters by name. Moments start at zero, as the optimizer's step counter does."""

    trained: Mapping[str, Array]
    frozen: Mapping[str, Array]
    learning_rate: float
    properties: Mapping[str, Property] = field(default_factory=dict)


def write_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The file's content; equal checkpoints give equal bytes."""
    return _Writer().write(checkpoint)


class _Writer:
    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1 << 20)
        # A field left out cannot be set in place; a reader may want to set `step`.
        self._builder.ForceDefaults(True)
        self._raw: dict[tuple[int, bytes], int] = {}

    def write(self, checkpoint: Checkpoint) -> bytes:
        module = self._module(checkpoint)
        groups = self._vector([self._group(checkpoint)])
        properties = self._properties(checkpoint.properties)
        root = self._table({0: np.int32(VERSION), 1: module, 2: groups, 3: properties})
        self._builder.Finish(root, IDENTIFIER)
        return bytes(self._builder.Output())

    def _module(self, checkpoint: Checkpoint) -> int:
        trained = self._tensors(checkpoint.trained)
        frozen = self._tensors(checkpoint.frozen)
        return self._table({0: trained, 1: frozen, 2: np.bool_(False), 3: np.bool_(False)})

    def _group(self, checkpoint: Checkpoint) -> int:
        states = []
        for name, value in checkpoint.trained.items():
            owner = self._builder.CreateString(name)
            moments = self._tensors(dict.fromkeys(MOMENTA, np.zeros_like(value)))
            states.append(self._table({0: owner, 1: moments}))
        name, members = self._builder.CreateString(GROUP), self._vector(states)
        rate = np.float32(checkpoint.learning_rate)
        return self._table({0: name, 1: np.int64(0), 2: rate, 3: members})

    def _properties(self, properties: Mapping[str, Property]) -> int:
        kinds: dict[type, list[int]] = {int: [], float: [], str: []}
        for name, value in properties.items():
            key = self._builder.CreateString(name)
            kinds[type(value)].append(self._table({0: key, 1: self._scalar(value)}))
        vectors = [self._vector(kinds[kind]) for kind in (int, float, str)]
        return self._table(dict(enumerate(vectors)))

    def _scalar(self, value: Property) -> np.generic | int:
        if isinstance(value, str):
            text: int = self._builder.CreateString(value)
            return text
        return np.int64(value) if isinstance(value, int) else np.float32(value)

    def _tensors(self, tensors: Mapping[str, Array]) -> int:
        return self._vector([self._tensor(name, value) for name, value in tensors.items()])

    def _tensor(self, name: str, value: Array) -> int:
        text = self._builder.CreateString(name)
        raw = self._bytes(np.ascontiguousarray(value, np.float32).tobytes())
        self._builder.StartVector(8, value.ndim, 8)
        for size in reversed(value.shape):
            self._builder.PrependInt64(size)
        dims = self._builder.EndVector()
        return self._table({0: text, 2: dims, 3: np.int32(FLOAT), 4: raw})

    def _bytes(self, content: bytes) -> int:
        """A vector of bytes; equal ones, as all those zeros, are written once."""
        key = (len(content), content)
        if key not in self._raw:
            self._raw[key] = self._builder.CreateByteVector(content)
        return self._raw[key]

    def _vector(self, members: Sequence[int]) -> int:
        self._builder.StartVector(4, len(members), 4)
        for member in reversed(members):
            self._builder.PrependUOffsetTRelative(member)
        end: int = self._builder.EndVector()
        return end

    def _table(self, fields: Mapping[int, np.generic | int]) -> int:
        """Field number to what it holds: a NumPy scalar, or the offset of what was written."""
        self._builder.StartObject(max(fields) + 1)
        for number, value in fields.items():
            self._slot(number, value)
        end: int = self._builder.EndObject()
        return end

    def _slot(self, number: int, value: np.generic | int) -> None:
        builder = self._builder
        if isinstance(value, np.bool_):
            builder.PrependBoolSlot(number, bool(value), False)
        elif isinstance(value, np.int32):
            builder.PrependInt32Slot(number, int(value), 0)
        elif isinstance(value, np.int64):
            builder.PrependInt64Slot(number, int(value), 0)
        elif isinstance(value, np.float32):
            builder.PrependFloat32Slot(number, float(value), 0.0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, int(value), 0)
