"""A small checker for JSON documents that reports every problem, each with its path.

A check is a function `(value, path, problems)` that appends one line per problem. The functions
below build checks; a document's schema is a nested table of them (see `manifest.py`).
"""

from __future__ import annotations

import math
import re
from typing import Any, Callable, List, Mapping

Check = Callable[[Any, str, List[str]], None]


def shown(value: object) -> str:
    """Return `value` as a short text for a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def integer(minimum: int = 0) -> Check:
    """A whole number, at least `minimum`."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        # JSON's true is an int to Python.
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            problems.append(f"{path}: expected an integer >= {minimum}, found {shown(value)}")

    return check


def number(above: float | None = None, minimum: float | None = None) -> Check:
    """A finite number, larger than `above`, at least `minimum`."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            problems.append(f"{path}: expected a number, found {shown(value)}")
        elif not math.isfinite(value):
            problems.append(f"{path}: expected a finite number, found {shown(value)}")
        elif above is not None and value <= above:
            problems.append(f"{path}: expected a number > {above}, found {shown(value)}")
        elif minimum is not None and value < minimum:
            problems.append(f"{path}: expected a number >= {minimum}, found {shown(value)}")

    return check


def text(pattern: str = r"(?s).+", what: str = "a text that is not empty") -> Check:
    """A string that matches `pattern` from end to end; `what` names it in the message."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            problems.append(f"{path}: expected {what}, found {shown(value)}")

    return check


def one_of(*choices: Any) -> Check:
    """Exactly one of `choices`."""
    wanted = " or ".join(repr(choice) for choice in choices)

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            problems.append(f"{path}: expected {wanted}, found {shown(value)}")

    return check


def either(first: Check, second: Check, what: str) -> Check:
    """What satisfies `first` or `second`; `what` names both in the message."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        for option in (first, second):
            found: list[str] = []
            option(value, path, found)
            if not found:
                return
        problems.append(f"{path}: expected {what}, found {shown(value)}")

    return check


def list_of(item: Check, length: int | None = None, minimum: int = 0) -> Check:
    """A list of `item`s, of exactly `length` or of at least `minimum` elements."""
    size = f"{length}" if length is not None else f"at least {minimum}"

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, list):
            problems.append(f"{path}: expected a list, found {shown(value)}")
            return
        if len(value) < minimum or (length is not None and len(value) != length):
            problems.append(f"{path}: expected {size} elements, found {len(value)}")
        for index, element in enumerate(value):
            item(element, f"{path}[{index}]", problems)

    return check


def fields(table: Mapping[str, Check]) -> Check:
    """An object with every key of `table`; unknown keys are ignored."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, dict):
            problems.append(f"{path or 'document'}: expected an object, found {shown(value)}")
            return
        for key, inner in table.items():
            where = f"{path}.{key}" if path else key
            if key in value:
                inner(value[key], where, problems)
            else:
                problems.append(f"{where}: missing")

    return check


def mapping(key: Check, item: Check) -> Check:
    """An object whose every key satisfies `key` and every value `item`."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, dict):
            problems.append(f"{path}: expected an object, found {shown(value)}")
            return
        for name, element in value.items():
            where = f"{path}[{shown(name)}]"
            key(name, where, problems)
            item(element, where, problems)

    return check
