"""How a person writes how much the saves of a run may write in an hour."""

from __future__ import annotations

import re

NO_BUDGET = "none"
UNITS = {"kb": 10**3, "mb": 10**6, "gb": 10**9}


def parse_budget(text: str) -> float | None:
    """Return the bytes an hour that `text` names, such as 500MB/h; None for "none".

    Raises ValueError, as argparse expects of a type.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]b)/h\s*", text.lower())
    if text.strip().lower() == NO_BUDGET:
        return None
    if found is None or not float(found[1]):
        raise ValueError(text)
    return float(found[1]) * UNITS[found[2]]


def budget_text(budget: float | None) -> str:
    """Return what `parse_budget` reads as `budget`."""
    return NO_BUDGET if budget is None else f"{budget / 1e6:g}MB/h"
