"""Which names a class may be given: they become folders, on the disks of boards and elsewhere.

Folders that are there already may be called anything (`dataset.py`); this is for new names.
"""

from __future__ import annotations

import unicodedata
from typing import Iterable, Iterator

from mobiletl.device.bundle.left_out import SYSTEM_FOLDERS
from mobiletl.device.pictures.layout import TRAIN_FOLDERS, VALIDATION_FOLDERS
from mobiletl.device.printable import printable

# Names of the parts of a data set, which `open_dataset` would not take for classes.
RESERVED = (*TRAIN_FOLDERS, *VALIDATION_FOLDERS)
MOST_CHARACTERS = 60
# Most file systems take 255, and temporary names need some of it.
MOST_BYTES = 200
# What no FAT file system takes in a name; sticks and cards have one.
_ELSEWHERE = '\\:*?"<>|'
# Scripts and emoji join letters with these two, which are otherwise control characters.
_JOINERS = "\u200c\u200d"


def problem_of_class_name(name: str, others: Iterable[str] = ()) -> str | None:
    """Say why `name` cannot be that of a new class beside `others`; None where it can.

    The answer is on one line, with the name in it, safe to print.
    """
    shown = f"class name '{printable(name[: 2 * MOST_CHARACTERS])}'"
    for reason in _reasons(name):
        return f"{shown} {reason}"
    for other in others:
        if other != name and _folded(other) == _folded(name):
            return (
                f"{shown} differs only by case from '{printable(other)}'; some disks take both "
                "for one folder, so choose another"
            )
    return None


def _reasons(name: str) -> Iterator[str]:
    """Yield what is wrong with it, in words that follow the name in a sentence."""
    if not name.strip():
        yield "is empty; give it at least one character"
    if name != name.strip() or name.endswith("."):
        yield "begins or ends with a space, or ends with a dot; leave that out"
    if name.startswith("."):
        yield "begins with a dot, which hides a folder; leave the dot out"
    for char in name:
        if char == "/" or char in _ELSEWHERE:
            yield f"has {char} in it, which no disk or not every disk takes; leave it out"
        if _controls(char):
            yield "has a control character in it, or half a character; leave it out"
    if len(name) > MOST_CHARACTERS:
        yield f"has {len(name)} characters; expected at most {MOST_CHARACTERS}"
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        yield f"has {size} bytes in UTF-8; expected at most {MOST_BYTES}"
    if not unicodedata.is_normalized("NFC", name):
        composed = printable(unicodedata.normalize("NFC", name))
        yield f"is written with separate accents; expected '{composed}' in Unicode's form NFC"
    if name.lower() in SYSTEM_FOLDERS:
        yield "is that of a folder of the system, which is passed over; choose another"
    if _folded(name) in RESERVED:
        yield "is the name of a part of a data set, such as train or test; choose another"


def _controls(char: str) -> bool:
    """Whether it moves the cursor, turns the direction of text, or is half of a character."""
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in _JOINERS


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
