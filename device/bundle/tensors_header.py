"""The header of a safetensors file, checked before the library that reads the rest sees it.

https://github.com/huggingface/safetensors (Format): the header's length as u64, the header, which
is JSON, and the tensors' bytes. The library takes headers of 100 MB, and what it refuses it quotes.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Mapping

from mobiletl.device.bundle.outside_file import OddFile, open_outside
from mobiletl.device.bundle.schema import fields, integer, joined, list_of, one_of, shown
from mobiletl.device.bundle.strict_json import BadJson, parse_json

LENGTH_BYTES = 8
# 100 bytes a tensor; a state's names of classes are in it, too.
MOST_HEADER_BYTES = 4_000_000
# Larger than the disk of any board: the size of a file is checked against its header, not this.
MOST_FILE_BYTES = 1 << 40
MOST_NAME = 500
MOST_RANK = 8
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip


class BadHeader(ValueError):
    """What is wrong with the file, as the end of a sentence."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in its file, from `start` on."""

    dtype: str
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Header:
    """Every tensor by name, in the order of the header, and the texts beside them."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, Place]


_TENSOR = fields(
    {
        "dtype": one_of(*ITEM_BYTES),
        "shape": list_of(integer(), maximum=MOST_RANK),
        "data_offsets": list_of(integer(), length=2),
    }
)


def header_of(path: Path) -> Header:
    """Return the header of the file at `path`; raises BadHeader, OSError."""
    try:
        with open_outside(path, MOST_FILE_BYTES) as file:
            return read_header(file)
    except OddFile as error:
        raise BadHeader(f"it {error}") from error


def read_header(file: FileIO) -> Header:
    """Return the header at the beginning of `file`, an open file; raises BadHeader, OSError."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, MOST_HEADER_BYTES):
        raise BadHeader(f"its header has {length} bytes, the file has {size}")
    content = file.read(length)
    try:
        document = parse_json(content)
    except BadJson as error:
        raise BadHeader(f"its header cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise BadHeader(f"its header is {shown(document)}, expected an object")
    metadata = document.pop("__metadata__", {})
    problems = _problems(metadata, document)
    if problems:
        raise BadHeader(f"its header has {joined(problems)}")
    start = LENGTH_BYTES + length
    return Header(metadata, _places(document, start, size))


def _problems(metadata: Any, tensors: Mapping[str, Any]) -> list[str]:
    problems: list[str] = []
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        problems.append("no texts as __metadata__")
    for name, entry in tensors.items():
        if len(name) > MOST_NAME:
            problems.append(f"a name of {len(name)} characters")
        _TENSOR(entry, shown(name), problems)
    return problems


def _places(tensors: Mapping[str, Any], start: int, size: int) -> dict[str, Place]:
    """Check that the tensors fill the file, one behind the other."""
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        first, last = entry["data_offsets"]
        expected = math.prod(entry["shape"]) * ITEM_BYTES[entry["dtype"]]
        if first != end or last - first != expected:
            raise BadHeader(
                f"its tensor {shown(name)} lies from {first} to {last}, expected {end} to "
                f"{end + expected}"
            )
        end = last
    if start + end != size:
        raise BadHeader(f"its tensors end at byte {start + end}, the file at {size}")
    return {
        name: Place(entry["dtype"], tuple(entry["shape"]), start + entry["data_offsets"][0])
        for name, entry in tensors.items()
    }
