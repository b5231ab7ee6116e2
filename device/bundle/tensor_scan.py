"""A tensor of a graph: its numbers lie in the file itself, as many as its shape says."""

from __future__ import annotations

import math

from mobiletl.device.bundle import graph_rules as rules
from mobiletl.device.bundle.schema import shown
from mobiletl.device.bundle.wire import BYTES, VARINT, Field, Read, fields, numbers, signed
from mobiletl.device.bundle.wire_texts import Refused, text_at

# Scalars and axes are written this way; weights are raw.
MOST_PACKED_BYTES = 1 << 20


def check_tensor(read: Read, start: int, end: int) -> str:
    """Return the name of the tensor between `start` and `end`; raises Refused, BadWire."""
    dims: list[int] = []
    name, kind = "", 0
    stored: list[int] = []
    for field in fields(read, start, end):
        if field.number in rules.TENSOR_ELSEWHERE:
            raise Refused(
                f"has the numbers of {shown(name) if name else 'a tensor'} in another file "
                "(external data), which a bundle never has"
            )
        if field.number == rules.TENSOR_DIMS:
            dims += integers(read, field)
        elif field.number == rules.TENSOR_TYPE and field.kind == VARINT:
            kind = field.value
        elif field.number == rules.TENSOR_NAME:
            name = text_at(read, field)
        elif field.number == rules.TENSOR_RAW and field.kind == BYTES:
            stored.append(field.end - field.start)
        elif field.number in rules.TENSOR_TYPED:
            stored.append(_typed_count(read, field))
        elif field.number not in (rules.TENSOR_NOTE, 16):
            raise Refused(f"holds field {field.number} of a tensor, such as texts")
    _check_shape(name, dims, kind)
    _check_size(read, start, end, name, math.prod(dims), kind)
    return name


def integers(read: Read, field: Field) -> list[int]:
    """Return the numbers of a repeated field, packed or alone."""
    if field.kind == VARINT:
        return [signed(field.value)]
    size = field.end - field.start
    if field.kind != BYTES or size > MOST_PACKED_BYTES:
        raise Refused(f"has {size} bytes of numbers at byte {field.start}, which is no list of it")
    return list(numbers(read(field.start, size)))


def _check_shape(name: str, dims: list[int], kind: int) -> None:
    if kind not in rules.ELEMENT_BYTES:
        raise Refused(f"has {shown(name)} of type {kind}, which no bundle needs")
    if len(dims) > rules.MOST_RANK or any(not 0 <= side < 1 << 31 for side in dims):
        raise Refused(f"has {shown(name)} of shape {shown(dims)}")


def _check_size(read: Read, start: int, end: int, name: str, count: int, kind: int) -> None:
    """Compare what is stored with what the shape asks for."""
    expected = count * rules.ELEMENT_BYTES[kind]
    raw = found = 0
    typed = False
    for field in fields(read, start, end):
        if field.number == rules.TENSOR_RAW:
            raw += 1
            found = field.end - field.start
        elif field.number in rules.TENSOR_TYPED:
            typed = True
            found += _typed_count(read, field)
    if typed:
        expected = count
    if raw + typed > 1 or found != expected:
        unit = "numbers" if typed else "bytes"
        raise Refused(f"has {found} {unit} of {shown(name)}, its shape asks for {expected}")


def _typed_count(read: Read, field: Field) -> int:
    """How many numbers a field of a tensor's own type holds."""
    if field.kind != BYTES:
        return 1
    size = field.end - field.start
    each = rules.TENSOR_TYPED[field.number]
    if each:
        return size // each if size % each == 0 else -1
    return len(integers(read, field))
