"""Ways in which a file can be other than it was written: by accident, or on purpose.

Every change is drawn from a `random.Random`, so that a seed names it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
from typing import Any

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\n\u202e\x00"
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    3,
    2**31,
    2**53,
    2**63,
    2**64,
    10**30,
    -(10**18),
    0.0,
    -0.5,
    1e308,
    5e-324,
    "",
    "K",
    "x" * 100_000,
    ESCAPES,
    "a" + ESCAPES + "b",
    "\ud800",
    "\udc80",
    "../../etc/passwd",
    "/dev/zero",
    [],
    {},
    [[]],
    [0] * 1000,
    {"a": {"b": {}}},
)
# Written in place of a value, as no JSON writer would.
RAW_VALUES = (
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 300_000,
    "0." + "1" * 100_000,
    "[" * 900 + "]" * 900,
    "[" * 200_000,
    '{"a":' * 500 + "1" + "}" * 500,
    "[" + "[]," * 300_000 + "[]]",
    '"\\ud800"',
    '"\\u0000"',
)
_MARK = "@raw@"


def odd_bytes(content: bytes, draw: random.Random) -> bytes:
    """Return `content` with one to three changes that know nothing of its format."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        _change(changed, draw)
    return bytes(changed)


def _change(content: bytearray, draw: random.Random) -> None:
    if not content:
        content += bytes(draw.randrange(64))
        return
    at = draw.randrange(len(content))
    length = min(draw.choice((1, 2, 4, 8, 64, 1024)), len(content) - at)
    kind = draw.randrange(9)
    if kind == 0:
        content[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        content[at] = draw.randrange(256)
    elif kind == 2:
        del content[at:]
    elif kind == 3:
        other = draw.randrange(len(content))
        content[at : at + length] = content[other : other + length]
    elif kind == 4:
        del content[at : at + length]
    elif kind == 5:
        content[at:at] = bytes(draw.randrange(256) for _ in range(min(length, 64)))
    elif kind == 6:
        content[at : at + length] = bytes(length)
    elif kind == 7:
        content[at : at + 4] = draw.choice(
            (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
        )
    else:
        content += bytes(draw.randrange(256) for _ in range(draw.randrange(1, 4096)))


def odd_document(document: Any, draw: random.Random) -> str:
    """Return JSON text of `document` with one to three values, keys or members that are odd."""
    changed = copy.deepcopy(document)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        _change_member(changed, draw)
    text = json.dumps(changed)
    if draw.random() < 0.2:
        text = _with_raw(changed, draw)
    if draw.random() < 0.05:
        text = _with_key_twice(text)
    return text


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every (container, key) in `value`."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            _places(inner, found)
    return found


def _change_member(document: Any, draw: random.Random) -> None:
    places = _places(document, [])
    if not places:
        return
    container, key = draw.choice(places)
    texts = [(held, name) for held, name in places if isinstance(held[name], str)]
    if texts and draw.random() < 0.15:
        held, name = draw.choice(texts)
        held[name] = draw.choice((held[name] + ESCAPES, ESCAPES, "\x9b2J", "\u202e", "\udc9b"))
        return
    kind = draw.randrange(8)
    if kind < 4:
        container[key] = copy.deepcopy(draw.choice(ODD_VALUES))
    elif kind == 4:
        del container[key]
    elif kind == 5:
        other, name = draw.choice(places)
        with contextlib.suppress(KeyError, IndexError):
            container[key], other[name] = other[name], container[key]
        _cut_cycles(document)
    elif kind == 6 and isinstance(container, dict):
        container[draw.choice((ESCAPES, "", "../x", "\ud800", "y" * 5000))] = container.pop(key)
    elif isinstance(container[key], (int, float)) and not isinstance(container[key], bool):
        container[key] = container[key] * draw.choice((-1, 0, 2, 1000, 2**40)) + draw.choice((0, 1))
    else:
        container[key] = [container[key], container[key]]


def _cut_cycles(document: Any) -> None:
    """Two values that were exchanged may now hold each other."""
    try:
        json.dumps(document)
    except (ValueError, RecursionError):
        if isinstance(document, dict):
            document.clear()
        else:
            del document[:]


def _with_raw(document: Any, draw: random.Random) -> str:
    places = _places(document, [])
    if places:
        container, key = draw.choice(places)
        container[key] = _MARK
    return json.dumps(document).replace(json.dumps(_MARK), draw.choice(RAW_VALUES), 1)


def _with_key_twice(text: str) -> str:
    return text[:-1] + ', "format": "twice", "format": "twice"}' if text.endswith("}") else text
