"""Policies of what a backward pass keeps, one row each.

To add one: a file beside this one with its stand-ins and its row, and the row below. Methods,
accounts and exports take it from there.
"""

from __future__ import annotations

from mobiletl.core.saved.eight_bit import EIGHT_BIT
from mobiletl.core.saved.float32 import FLOAT32
from mobiletl.core.saved.one_bit import ONE_BIT
from mobiletl.core.saved.policy import Saved, keep
from mobiletl.core.table import find_row

__all__ = ["EIGHT_BIT", "FLOAT32", "ONE_BIT", "SAVED", "Saved", "find_saved", "keep"]

SAVED = (FLOAT32, ONE_BIT, EIGHT_BIT)


def find_saved(name: str) -> Saved:
    """The row of that name; UnsupportedModel lists the known ones."""
    return find_row(SAVED, name, "nothing is saved as")
