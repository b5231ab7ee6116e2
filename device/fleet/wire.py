"""Arrays that come over the network: one may be anything until its bytes are looked at.

Flower carries an array as the content of an .npy file. Its header is read here before any memory is
taken for its numbers, and has to say what is expected. Pickled objects are never read.
"""

from __future__ import annotations

import io
from typing import Any, Mapping, Tuple

import numpy as np

from mobiletl.device.bundle.schema import joined
from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.coding import FLOAT16, FLOAT32, INT8, SCALES, Sent, blocks_of
from mobiletl.device.printable import printable

Shape = Tuple[int, ...]
_VERSIONS = ((1, 0), (2, 0))
# What a tensor may come as; float16 turns to float32 where its range ends.
_TYPES = {FLOAT32: ("float32",), FLOAT16: ("float16", "float32"), INT8: ("int8",)}


def read_down(contents: Mapping[str, bytes], shapes: Mapping[str, Shape]) -> Sent:
    """Return the arrays of a round's parameters, which are of `shapes`; raises BadRound."""
    return _read(contents, {name: (shape, _TYPES[FLOAT16]) for name, shape in shapes.items()})


def read_up(contents: Mapping[str, bytes], shapes: Mapping[str, Shape], encoding: str) -> Sent:
    """Return the arrays that a board sends as `encoding` says; raises BadRound."""
    wanted = {name: (shape, _TYPES[encoding]) for name, shape in shapes.items()}
    if encoding == INT8:
        for name, shape in shapes.items():
            wanted[name + SCALES] = ((blocks_of(int(np.prod(shape))),), ("float32",))
    return _read(contents, wanted)


def _read(
    contents: Mapping[str, bytes], wanted: Mapping[str, tuple[Shape, tuple[str, ...]]]
) -> Sent:
    problems = [f"{printable(name[:80])} is unknown" for name in contents if name not in wanted]
    problems += [f"{name} is missing" for name in wanted if name not in contents]
    found: Sent = {}
    if not problems:
        for name, (shape, types) in wanted.items():
            try:
                found[name] = _array(contents[name], shape, types)
            except ValueError as error:
                problems.append(f"{name} {error}")
    if problems:
        raise BadRound(f"parameters do not fit: {joined(problems, most=3)}")
    return found


def _array(content: bytes, shape: Shape, types: tuple[str, ...]) -> Any:
    """Return the array in `content`; raises ValueError with the end of a sentence."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _VERSIONS:
            raise ValueError(f"has version {version}")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        found, by_columns, dtype = read(stream)
    # What a damaged header makes NumPy's parser raise is of many kinds.
    except Exception as error:
        raise ValueError("is no array that can be read") from error
    if found != shape or str(dtype) not in types or (by_columns and len(shape) > 1):
        raise ValueError(f"is {dtype} {list(found)}, expected {' or '.join(types)} {list(shape)}")
    if len(content) - stream.tell() != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"has {len(content) - stream.tell()} bytes, which is not what it states")
    array = np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("has numbers that are not finite")
    return array
