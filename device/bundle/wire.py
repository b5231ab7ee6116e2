"""Protocol Buffers as they lie in a file: numbered fields, without any schema and any library.

https://protobuf.dev/programming-guides/encoding: a field is a key (its number and how it is
written), then a number, 4 or 8 bytes, or a length and as many bytes. Boards have no onnx package,
and the library that reads the graph is what this is to protect.
"""

from __future__ import annotations

from typing import Callable, Iterator, NamedTuple

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
# A key and a length, each a number of at most 64 bits.
_MOST_HEAD = 20
_MOST_NUMBER = 10

# (offset, count) to the bytes there, fewer at the end.
Read = Callable[[int, int], bytes]


class BadWire(ValueError):
    """The bytes are no message; the text says where."""


class Field(NamedTuple):
    """One field: `value` of a number, `start` and `end` of everything else."""

    number: int
    kind: int
    value: int
    start: int
    end: int


def fields(read: Read, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message between `start` and `end`; raises BadWire.

    Bytes of a field are not read, so that a weight of any size costs nothing.
    """
    place = start
    while place < end:
        head = read(place, min(_MOST_HEAD, end - place))
        key, used = _number(head, 0, place)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise BadWire(f"byte {place} begins field {number}, which no message has")
        value = size = 0
        if kind == VARINT:
            value, used = _number(head, used, place)
        elif kind == BYTES:
            size, used = _number(head, used, place)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise BadWire(f"byte {place} begins a field of kind {kind}, which is not used")
        first = place + used
        place = first + size
        if place > end:
            raise BadWire(f"the field at byte {first} has {size} bytes, {end - first} are there")
        yield Field(number, kind, value, first, place)


def numbers(content: bytes) -> Iterator[int]:
    """Yield the signed 64-bit numbers that are packed in `content`; raises BadWire."""
    place = 0
    while place < len(content):
        value, place = _number(content, place, 0)
        yield signed(value)


def signed(value: int) -> int:
    """Return a 64-bit number as it is meant where it may be negative."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _number(content: bytes, place: int, where: int) -> tuple[int, int]:
    """Return the number at `place` and the place behind it."""
    # Nearly all keys and lengths are a byte.
    if place < len(content) and content[place] < 0x80:
        return content[place], place + 1
    value = 0
    for index, byte in enumerate(content[place : place + _MOST_NUMBER]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & (1 << 64) - 1, place + index + 1
    raise BadWire(f"the number at byte {where + place} has no end")
