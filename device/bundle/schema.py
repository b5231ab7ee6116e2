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
    """Return `value` as a short text for a message, made of little more than what is shown."""
    if isinstance(value, (dict, list)) and (len(value) > 3 or _nested(value)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def _nested(value: Any) -> bool:
    return any(
        isinstance(v, (dict, list)) for v in (value.values() if isinstance(value, dict) else value)
    )


def joined(problems: list[str], most: int = 8) -> str:
    """Return the first `most` problems on one line, and how many more there are."""
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more


# What JSON's other readers hold exactly; sums and products of such numbers stay cheap.
LARGEST = 2**53


def integer(minimum: int = 0, maximum: int = LARGEST) -> Check:
    """A whole number from `minimum` to `maximum`."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        # JSON's true is an int to Python.
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            problems.append(f"{path}: expected an integer >= {minimum}, found {shown(value)}")
        elif value > maximum:
            problems.append(f"{path}: expected an integer <= {maximum}, found {shown(value)}")

    return check


def number(
    above: float | None = None, minimum: float | None = None, maximum: float | None = None
) -> Check:
    """A finite number, larger than `above`, from `minimum` to `maximum`."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            problems.append(f"{path}: expected a number, found {shown(value)}")
        elif not math.isfinite(value):
            problems.append(f"{path}: expected a finite number, found {shown(value)}")
        elif above is not None and value <= above:
            problems.append(f"{path}: expected a number > {above}, found {shown(value)}")
        elif minimum is not None and value < minimum:
            problems.append(f"{path}: expected a number >= {minimum}, found {shown(value)}")
        elif maximum is not None and value > maximum:
            problems.append(f"{path}: expected a number <= {maximum}, found {shown(value)}")

    return check


def text(pattern: str = r"(?s).+", what: str = "a text that is not empty") -> Check:
    """A string that matches `pattern` from end to end; `what` names it in the message."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            problems.append(f"{path}: expected {what}, found {shown(value)}")

    return check


def label(most: int = 500) -> Check:
    """A text of 1 to `most` characters that prints as it is: no escape sequence, no line's end."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
            problems.append(
                f"{path}: expected a printable text of 1 to {most} characters, found {shown(value)}"
            )

    return check


def nullable(inner: Check) -> Check:
    """Null, or what satisfies `inner`."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if value is not None:
            inner(value, path, problems)

    return check


def flag() -> Check:
    """True or false."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, bool):
            problems.append(f"{path}: expected true or false, found {shown(value)}")

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


def both(first: Check, second: Check) -> Check:
    """What satisfies both; the second is asked where the first has no objection."""

    def check(value: Any, path: str, problems: list[str]) -> None:
        before = len(problems)
        first(value, path, problems)
        if len(problems) == before:
            second(value, path, problems)

    return check


def list_of(
    item: Check, length: int | None = None, minimum: int = 0, maximum: int | None = None
) -> Check:
    """A list of `item`s, of exactly `length` or of `minimum` to `maximum` elements."""
    upper = math.inf if maximum is None else maximum
    size = f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}"
    size = size if length is None else f"{length}"

    def check(value: Any, path: str, problems: list[str]) -> None:
        if not isinstance(value, list):
            problems.append(f"{path}: expected a list, found {shown(value)}")
            return
        if not minimum <= len(value) <= upper or length not in (None, len(value)):
            problems.append(f"{path}: expected {size} elements, found {len(value)}")
            return
        for index, element in enumerate(value):
            item(element, f"{path}[{index}]", problems)

    return check


def fields(table: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with every key of `table`, and perhaps those of `optional`; others are ignored."""

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
        for key, inner in (optional or {}).items():
            if key in value:
                inner(value[key], f"{path}.{key}" if path else key, problems)

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
