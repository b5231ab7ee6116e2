"""The declared types of a graph's inputs, outputs and what is between them."""

from __future__ import annotations

from mobiletl.device.bundle import graph_rules as rules
from mobiletl.device.bundle.schema import shown
from mobiletl.device.bundle.wire import BYTES, VARINT, Field, Read, fields, signed
from mobiletl.device.bundle.wire_texts import Refused, text_at

# Of ValueInfoProto: name, type, note, metadata. Of TypeProto: tensor, sequence, note.
VALUE_NAME, VALUE_TYPE, VALUE_NOTES = 1, 2, (3, 4)
TYPE_TENSOR, TYPE_SEQUENCE, TYPE_NOTE = 1, 4, 6
TENSOR_ELEMENT, TENSOR_SHAPE = 1, 2
SIDE_VALUE, SIDE_NAME, SIDE_NOTE = 1, 2, 3
MOST_NESTING = 2


def declared_name(read: Read, start: int, end: int) -> str:
    """Return the name of a declared value; raises Refused for a type that no bundle needs."""
    name = ""
    for field in fields(read, start, end):
        if field.number == VALUE_NAME:
            name = text_at(read, field)
        elif field.number == VALUE_TYPE and field.kind == BYTES:
            _check_type(read, field, name, 1)
        elif field.number not in VALUE_NOTES:
            raise Refused(f"holds field {field.number} of a declared value")
    if not name:
        raise Refused("declares a value without a name")
    return name


def _check_type(read: Read, field: Field, name: str, depth: int) -> None:
    for inner in fields(read, field.start, field.end):
        if inner.number == TYPE_TENSOR and inner.kind == BYTES:
            _check_tensor_type(read, inner, name)
        elif inner.number == TYPE_SEQUENCE and inner.kind == BYTES and depth < MOST_NESTING:
            for element in fields(read, inner.start, inner.end):
                _check_type(read, element, name, depth + 1)
        elif inner.number != TYPE_NOTE:
            raise Refused(f"declares {shown(name)} of a type that no bundle needs")


def _check_tensor_type(read: Read, field: Field, name: str) -> None:
    for inner in fields(read, field.start, field.end):
        if inner.number == TENSOR_ELEMENT and inner.kind == VARINT:
            if inner.value not in rules.ELEMENT_BYTES:
                raise Refused(f"declares {shown(name)} of type {inner.value}")
        elif inner.number == TENSOR_SHAPE and inner.kind == BYTES:
            sides = list(fields(read, inner.start, inner.end))
            if len(sides) > rules.MOST_RANK:
                raise Refused(f"declares {shown(name)} with {len(sides)} axes")
            for side in sides:
                _check_side(read, side, name)
        else:
            raise Refused(f"holds field {inner.number} of the type of {shown(name)}")


def _check_side(read: Read, side: Field, name: str) -> None:
    for field in fields(read, side.start, side.end):
        if field.number == SIDE_VALUE and field.kind == VARINT:
            if not 0 <= signed(field.value) < 1 << 31:
                raise Refused(f"declares {shown(name)} with a side of {signed(field.value)}")
        elif field.number == SIDE_NAME:
            text_at(read, field)
        elif field.number != SIDE_NOTE:
            raise Refused(f"holds field {field.number} of a side of {shown(name)}")
