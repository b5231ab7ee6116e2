"""onnxruntime-training's checkpoint file: read its tensors, and give them other values.

A FlatBuffer (schema: onnxruntime/core/flatbuffers/schema of release 1.19.2, whose field numbers are
below). Other values are appended and the file's references turned to them, so that shapes may
change, too; whatever else the file holds stays as it is. The official API can load and save
checkpoints but not set an optimizer's moments.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Union

import numpy as np
from numpy.typing import NDArray

from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.errors import BadBundle
from mobiletl.device.printable import one_line

Content = Union[bytes, mmap.mmap]

IDENTIFIER = b"ODTC"
FLOAT = 1
ALIGNMENT = 16

# Field numbers, by table.
MODULE, GROUPS = 1, 2
TRAINED, FROZEN = 0, 1
STEP, OWNERS = 1, 3
OWNER, MOMENTS = 0, 1
NAME, DIMS, KIND, RAW = 0, 2, 3, 4


@dataclass(frozen=True)
class Values:
    """Parameters by name, moments as `<moment>/<parameter>`, and the optimizer's step counter."""

    tensors: Tensors
    step: int


def read_checkpoint(content: Content) -> Values:
    """Return what `content` holds, as views of it; raises BadBundle if it is no checkpoint of
    float32 tensors.
    """
    with _sound():
        return _Reader(content).values()


def change_checkpoint(path: Path, values: Values) -> None:
    """Give the file at `path` other `values`, which must name exactly its tensors.

    Raises BadBundle. Neither what is there nor what comes is copied in memory.
    """
    with path.open("r+b") as file, _sound():
        reader = _Reader(mapped(path))
        for name, table in reader.tensors():
            tensor = values.tensors[name]
            _append(file, reader.field(table, DIMS), np.array(tensor.shape, np.int64))
            _append(file, reader.field(table, RAW), np.ascontiguousarray(tensor, np.float32))
        _overwrite(file, reader.step_place(), "<q", values.step)


def mapped(path: Path) -> Content:
    """The content of a file, read where it is looked at, for as long as there are views of it."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return b""  # nothing cannot be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@contextmanager
def _sound() -> Iterator[None]:
    """References may lead anywhere: whatever reading them meets then is the file's fault."""
    try:
        yield
    except (struct.error, ValueError, KeyError, OverflowError, StopIteration) as error:
        raise BadBundle(
            f"the checkpoint of onnxruntime-training cannot be read ({one_line(error)}); "
            "export the bundle again"
        ) from error


def _append(file: BinaryIO, reference: int, array: NDArray[Any]) -> None:
    """Write `array` as a vector behind everything else, and point `reference` at it.

    The length of a vector of bytes counts bytes, as raw data do; of another one members.
    """
    count = array.nbytes if array.dtype == np.float32 else array.size
    end = file.seek(0, os.SEEK_END)
    padding = -(end + 4) % ALIGNMENT
    file.write(bytes(padding) + struct.pack("<I", count))
    file.write(array.reshape(-1).data)
    _overwrite(file, reference, "<I", end + padding - reference)


def _overwrite(file: BinaryIO, place: int, form: str, number: int) -> None:
    file.seek(place)
    file.write(struct.pack(form, number))


class _Reader:
    """Positions of tables and fields in the file; see https://flatbuffers.dev/internals."""

    def __init__(self, content: Content) -> None:
        self._content = content
        if content[4:8] != IDENTIFIER:
            raise BadBundle(
                "the checkpoint of onnxruntime-training is none (it does not start as one), "
                "expected the file as exported; export the bundle again"
            )

    def values(self) -> Values:
        """Everything, copied."""
        tensors = {name: self._tensor(table) for name, table in self.tensors()}
        place = self._place(self._group(), STEP)
        # A number that is 0 is left out of a file: no step has been taken.
        return Values(tensors, int(self._number("<q", place)) if place else 0)

    def tensors(self) -> Iterator[tuple[str, int]]:
        """Name and table of each parameter and each moment."""
        module = self._reference(self._root(), MODULE)
        for field in (TRAINED, FROZEN):
            for table in self._members(module, field):
                yield self._text(table, NAME), table
        for owner in self._members(self._group(), OWNERS):
            for table in self._members(owner, MOMENTS):
                yield f"{self._text(table, NAME)}/{self._text(owner, OWNER)}", table

    def step_place(self) -> int:
        """Where the step counter is."""
        return self.field(self._group(), STEP)

    def field(self, table: int, number: int) -> int:
        """Where field `number` of `table` is; BadBundle if the table lacks it."""
        place = self._place(table, number)
        if not place:
            raise BadBundle(
                f"the checkpoint of onnxruntime-training lacks field {number} of a table, expected "
                "parameters and an optimizer's state; export the bundle again"
            )
        return place

    def _place(self, table: int, number: int) -> int:
        """Where field `number` of `table` is; 0 if the table lacks it."""
        vtable = table - self._number("<i", table)
        entry = 4 + 2 * number
        offset = self._number("<H", vtable + entry) if entry < self._number("<H", vtable) else 0
        return table + offset if offset else 0

    def _root(self) -> int:
        return self._number("<I", 0)

    def _group(self) -> int:
        return next(self._members(self._root(), GROUPS))

    def _members(self, table: int, number: int) -> Iterator[int]:
        """The tables of a vector of tables."""
        vector = self._reference(table, number)
        for index in range(self._number("<I", vector)):
            place = vector + 4 + 4 * index
            yield place + self._number("<I", place)

    def _tensor(self, table: int) -> Floats:
        kind = self._number("<i", self.field(table, KIND))
        if kind != FLOAT:
            raise BadBundle(
                f"{self._text(table, NAME)} in the checkpoint has type {kind}, expected {FLOAT} "
                "(float32); export the bundle again"
            )
        dims = self._reference(table, DIMS)
        rank = self._number("<I", dims)
        shape = np.frombuffer(self._content, np.int64, rank, dims + 4)
        raw = self._reference(table, RAW)
        count = self._number("<I", raw) // 4
        return np.frombuffer(self._content, np.float32, count, raw + 4).reshape(shape)

    def _text(self, table: int, number: int) -> str:
        start = self._reference(table, number)
        return self._content[start + 4 : start + 4 + self._number("<I", start)].decode("utf-8")

    def _reference(self, table: int, number: int) -> int:
        place = self.field(table, number)
        return place + self._number("<I", place)

    def _number(self, form: str, place: int) -> int:
        (value,) = struct.unpack_from(form, self._content, place)
        return int(value)
