"""One node of a graph: its operator, what it reads and makes, and its attributes."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Iterator

from mobiletl.device.bundle import graph_rules as rules
from mobiletl.device.bundle.schema import shown
from mobiletl.device.bundle.tensor_scan import check_tensor, integers
from mobiletl.device.bundle.wire import BYTES, FOUR_BYTES, VARINT, Field, Read, fields
from mobiletl.device.bundle.wire_texts import Refused, text_at

MOST_FLOATS = 1 << 16
MOST_OPERANDS = 1 << 10
_NOTES = (rules.NODE_NAME, rules.NODE_NOTE, rules.NODE_METADATA)


@dataclass
class Node:
    """The texts of a node, and where its attributes lie."""

    kind: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: list[Field] = field(default_factory=list)

    def check(self) -> None:
        """Refuse an operator that is in no table."""
        if self.kind not in rules.OPERATORS.get(self.domain, ()):
            named = f"{self.domain}.{self.kind}" if self.domain else self.kind
            raise Refused(f"holds the operator {shown(named)}, which no bundle needs")
        if not self.outputs or max(len(self.inputs), len(self.outputs)) > MOST_OPERANDS:
            raise Refused(
                f"has a {self.kind} of {len(self.inputs)} inputs and {len(self.outputs)} outputs"
            )


def read_node(read: Read, start: int, end: int) -> Node:
    """Return the node between `start` and `end`; raises Refused, BadWire."""
    node = Node()
    for part in fields(read, start, end):
        if part.number == rules.NODE_INPUT:
            node.inputs.append(text_at(read, part))
        elif part.number == rules.NODE_OUTPUT:
            node.outputs.append(text_at(read, part))
        elif part.number == rules.NODE_KIND:
            node.kind = text_at(read, part)
        elif part.number == rules.NODE_DOMAIN:
            node.domain = text_at(read, part)
        elif part.number == rules.NODE_ATTRIBUTE and part.kind == BYTES:
            node.attributes.append(part)
        elif part.number not in _NOTES:
            raise Refused(f"holds field {part.number} of a node")
    node.check()
    return node


def graphs_inside(read: Read, node: Node) -> Iterator[Field]:
    """Check the attributes of a node, and yield the graphs that are among them."""
    names: set[str] = set()
    for place in node.attributes:
        name, kind, values = _attribute(read, place, node.kind)
        where = f"{name} of {node.kind}"
        if kind not in rules.ATTRIBUTE_FIELDS or not name or name in names:
            raise Refused(f"has {shown(where)} twice, or of no type that a bundle needs")
        names.add(name)
        if any(value.number != rules.ATTRIBUTE_FIELDS[kind] for value in values):
            raise Refused(f"has {shown(where)} of two types")
        if kind == rules.GRAPH:
            if node.kind != "Scan" or len(values) != 1 or values[0].kind != BYTES:
                raise Refused(f"has a graph as {shown(where)}")
            yield values[0]
        elif node.kind != "Constant" or kind not in (rules.INTEGER, rules.INTEGERS):
            _check(read, name, where, kind, values)


def _attribute(read: Read, place: Field, node: str) -> tuple[str, int, list[Field]]:
    """Return name, type and values of the attribute at `place`."""
    name, kind = "", 0
    values: list[Field] = []
    for part in fields(read, place.start, place.end):
        if part.number == rules.ATTRIBUTE_NAME:
            name = text_at(read, part)
        elif part.number == rules.ATTRIBUTE_TYPE and part.kind == VARINT:
            kind = part.value
        elif part.number in rules.ATTRIBUTE_FIELDS.values():
            values.append(part)
        elif part.number != rules.ATTRIBUTE_NOTE:
            raise Refused(f"holds field {part.number} of an attribute of {node}")
    return name, kind, values


def _check(read: Read, name: str, where: str, kind: int, values: list[Field]) -> None:
    if kind in (rules.INTEGER, rules.INTEGERS):
        _check_integers(name, where, [n for value in values for n in integers(read, value)])
    elif kind in (rules.FLOAT, rules.FLOATS):
        _check_floats(read, where, values)
    elif kind == rules.TEXT:
        for value in values:
            text_at(read, value)
    else:
        for value in values:
            check_tensor(read, value.start, value.end)


def _check_integers(name: str, where: str, found: list[int]) -> None:
    least, most = rules.INTEGER_RANGES.get(name, rules.ANY_INTEGER)
    if len(found) > rules.MOST_SIDES:
        raise Refused(f"has {len(found)} numbers as {shown(where)}")
    for number in found:
        if not least <= number <= most:
            raise Refused(f"has {number} as {shown(where)}, expected {least} to {most}")


def _check_floats(read: Read, where: str, values: list[Field]) -> None:
    for value in values:
        size = value.end - value.start
        if value.kind not in (BYTES, FOUR_BYTES) or size % 4 or size > 4 * MOST_FLOATS:
            raise Refused(f"has {size} bytes of numbers as {shown(where)}")
        for (number,) in struct.iter_unpack("<f", read(value.start, size)):
            if math.isnan(number):
                raise Refused(f"has NaN as {shown(where)}")
