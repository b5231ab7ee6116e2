"""Tables of rows that have names: methods, optimizers, policies of what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from mobiletl.core.errors import UnsupportedModel


class Named(Protocol):
    """A row."""

    @property
    def name(self) -> str:
        """What a person types."""


RowType = TypeVar("RowType", bound=Named)


def find_row(table: Sequence[RowType], name: str, unknown: str) -> RowType:
    """The row called `name`; UnsupportedModel says `unknown`, the name, and the known ones."""
    for row in table:
        if row.name == name:
            return row
    known = ", ".join(row.name for row in table)
    raise UnsupportedModel(f"{unknown} {name!r}, expected one of: {known}")
