"""Short texts of a message, and the refusal of what they, or anything else in a graph, may be."""

from __future__ import annotations

from mobiletl.device.bundle.graph_rules import MOST_NAME_BYTES
from mobiletl.device.bundle.wire import BYTES, Field, Read


class Refused(Exception):
    """A graph holds what it must not; the text continues a sentence that starts with its file."""


def text_at(read: Read, field: Field) -> str:
    """Return the name that a field holds."""
    size = field.end - field.start
    if field.kind != BYTES or size > MOST_NAME_BYTES:
        raise Refused(f"has a name of {size} bytes, expected at most {MOST_NAME_BYTES}")
    try:
        return read(field.start, size).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"has a name at byte {field.start} that is no UTF-8") from None
