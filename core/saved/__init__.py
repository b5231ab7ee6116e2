"""Policies of what a backward pass keeps, one row each.

To add one: a file beside this one with its stand-ins and its row, and the row below. Methods,
accounts and exports take it from there.
"""

from __future__ import annotations

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.saved.float32 import FLOAT32
from mobiletl.core.saved.one_bit import ONE_BIT
from mobiletl.core.saved.policy import Saved, keep

__all__ = ["FLOAT32", "ONE_BIT", "SAVED", "Saved", "find_saved", "keep"]

SAVED = (FLOAT32, ONE_BIT)


def find_saved(name: str) -> Saved:
    """The row of that name; UnsupportedModel lists the known ones."""
    for row in SAVED:
        if row.name == name:
            return row
    known = ", ".join(row.name for row in SAVED)
    raise UnsupportedModel(f"nothing is saved as {name!r}, expected one of: {known}")
