"""The tensors of a state file, each read when it is asked for.

A run that goes back to its best state has all its memory in use: a second state, and the pages of
a mapped file, would come on top of the plan.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Iterable, Iterator, Mapping, Tuple

import numpy as np

from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.digest import tensors_digest
from mobiletl.device.bundle.outside_file import OddFile, open_outside
from mobiletl.device.bundle.tensors_header import MOST_FILE_BYTES, BadHeader, read_header

PIECE_BYTES = 1 << 16
_Place = Tuple[Tuple[int, ...], int]


class StoredState(Closing, Mapping[str, Floats]):
    """A mapping from a name to a newly read f32 array; a context manager."""

    def __init__(self, path: Path) -> None:
        """Check the header, and read no tensor yet.

        Raises OSError, and ValueError for a header that does not fit the file, and for tensors of
        another type than float32.
        """
        self.path = path
        try:
            # Unbuffered: rows are read whole, straight into their arrays.
            self._file = open_outside(path, MOST_FILE_BYTES)
        except OddFile as error:
            raise BadHeader(f"it {error}") from error
        try:
            header = read_header(self._file)
            other = sorted({place.dtype for place in header.tensors.values()} - {"F32"})
            if other:
                raise BadHeader(f"it holds {', '.join(other)}, expected F32")
        except BaseException:
            self.close()
            raise
        self.metadata: Mapping[str, str] = header.metadata
        self._places: dict[str, _Place] = {
            name: (place.shape, place.start) for name, place in header.tensors.items()
        }

    def __getitem__(self, name: str) -> Floats:
        """Read the tensor called `name`; raises OSError."""
        shape, offset = self._places[name]
        array = np.empty(shape, np.float32)
        self._file.seek(offset)
        if self._file.readinto(array.reshape(-1).data.cast("B")) != array.nbytes:
            raise OSError(f"{name} cannot be read whole")
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def digest(self, info: str) -> str:
        """Return `state_digest` of the tensors, none of which is ever whole in memory."""
        places = ((name, *self._places[name]) for name in sorted(self._places))
        return tensors_digest(
            info, ((name, shape, self._pieces(shape, offset)) for name, shape, offset in places)
        )

    def _pieces(self, shape: tuple[int, ...], offset: int) -> Iterator[bytes]:
        """Read the bytes of an f32 array; raises OSError where the file ends too soon."""
        left = math.prod(shape) * np.dtype(np.float32).itemsize
        self._file.seek(offset)
        while left:
            piece = self._file.read(min(left, PIECE_BYTES))
            if not piece:
                raise OSError("a tensor cannot be read whole")
            left -= len(piece)
            yield piece

    def forms(self) -> Tensors:
        """Return arrays of the same names, shapes and type that hold nothing and take no memory."""
        nothing = np.zeros((), np.float32)
        return {name: np.broadcast_to(nothing, shape) for name, (shape, _) in self._places.items()}

    def take(self, name: str) -> Floats:
        """Read the tensor called `name`, which is no part of the mapping from now on."""
        array = self[name]
        del self._places[name]
        return array

    def leave_out(self, names: Iterable[str]) -> None:
        """Let the tensors called `names` be no part of the mapping."""
        for name in names:
            del self._places[name]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
