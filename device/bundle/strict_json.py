"""The one opener of JSON that comes from outside: manifests, headers, stores, metrics, events.

Python's reader takes more than JSON is: NaN, numbers of any length (reading one of a million digits
takes seconds), a key twice, half of a surrogate pair. And a document of 16 MB may be a list of five
million lists, which takes 400 MB. All of this is refused here, in one line, before or while it is
read; `schema.py` then checks types and ranges.
"""

from __future__ import annotations

import json
import math
from typing import Any, Iterable

# A number of a document fits 64 bits; 17 digits tell any two floats apart.
MOST_DIGITS = 19
MOST_FLOAT_CHARACTERS = 40
MOST_DEPTH = 16
# Of lists, objects and their members. A manifest of a large network has 10,000.
MOST_VALUES = 200_000
# A name on a disk that is no UTF-8 reaches Python as these (PEP 383), and JSON as an escape.
RAW_BYTES = ("\udc80", "\udcff")


class BadJson(ValueError):
    """What is wrong with the text, as the end of a sentence."""


def parse_json(content: bytes | str, raw_bytes: bool = False) -> Any:
    """Return the document in `content`, the size of which the caller has limited.

    Texts are well-formed; with `raw_bytes` they may hold bytes of a file's name that are no UTF-8.
    Raises BadJson.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"byte {error.start} is no UTF-8") from None
    values = text.count(",") + text.count("[") + text.count("{")
    if values > MOST_VALUES:
        raise BadJson(f"it has {values} values, expected at most {MOST_VALUES}")
    try:
        document = json.loads(
            text,
            parse_constant=_refused_constant,
            parse_int=_integer,
            parse_float=_float,
            object_pairs_hook=_object,
        )
    except BadJson:
        raise
    except RecursionError:
        raise BadJson(f"it is nested deeper than {MOST_DEPTH} levels") from None
    # A ValueError's text quotes nothing of the document.
    except ValueError as error:
        raise BadJson(f"it is not valid JSON ({error})") from None
    _check_tree(document, raw_bytes)
    return document


def _refused_constant(constant: str) -> float:
    raise BadJson(f"{constant} is not JSON")


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise BadJson(f"a number of it has {len(digits)} digits, expected at most {MOST_DIGITS}")
    return int(digits)


def _float(characters: str) -> float:
    if len(characters) > MOST_FLOAT_CHARACTERS:
        raise BadJson(f"a number of it has {len(characters)} characters")
    number = float(characters)
    if not math.isfinite(number):
        raise BadJson(f"{characters} is no finite number")
    return number


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadJson("an object of it has a key twice")
    return found


def _check_tree(document: Any, raw_bytes: bool) -> None:
    """Look at every value, level by level, so that no depth can end the program."""
    level: list[Any] = [document]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value, raw_bytes)
            elif isinstance(value, dict):
                _check_texts(value, raw_bytes)
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        if not inner:
            return
        level = inner
    raise BadJson(f"it is nested deeper than {MOST_DEPTH} levels")


def _check_texts(texts: Iterable[str], raw_bytes: bool) -> None:
    for text in texts:
        _check_text(text, raw_bytes)


def _check_text(text: str, raw_bytes: bool) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        first, last = RAW_BYTES
        halves = [char for char in text if "\ud800" <= char <= "\udfff"]
        if not raw_bytes or any(not first <= char <= last for char in halves):
            raise BadJson("a text of it holds half a surrogate pair") from None
