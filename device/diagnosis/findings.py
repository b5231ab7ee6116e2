"""What a check of `doctor` returns."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"
LEVELS = (OK, NOTE, WARNING, PROBLEM)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    `level`: "ok"; "note", good to know; "warning", slower or at risk; "problem", training would
    fail. `to_type` is a command or a deed, empty where there is nothing to do.
    """

    check: str
    level: str
    found: str
    to_type: str
