"""Files of JSON lines with a checksum each: a line that the disk has changed is left out, and said.

    {"epoch": 1, ..., "crc": "9f4a2b01"}

`crc` is the last key: the CRC-32 of the line's bytes before `, "crc"`, in eight hexadecimal digits.
Lines from before there were checksums have none; they count as long as no line with one came before
them, so that a line whose checksum is damaged doesn't pass for one of those.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from pathlib import Path
from typing import Any, Mapping

from mobiletl.device.printable import printable

_SEAL = re.compile(rb', "crc": "([0-9a-f]{8})"\}\Z')
# No line of ours is longer; of a file from elsewhere, no more is read at once.
MOST_BYTES = 1 << 20

logger = logging.getLogger(__name__)


def sealed(document: Mapping[str, Any]) -> bytes:
    """Return the line of `document`, which has a key at least; ValueError for a NaN."""
    content = json.dumps(document, allow_nan=False)[:-1].encode("utf-8")
    return content + b', "crc": "%08x"}\n' % zlib.crc32(content)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the sound lines of a file; the log says how many others are left out.

    Raises OSError for a file that cannot be read; one that is not there has no lines.
    """
    found: list[dict[str, Any]] = []
    damaged, checked = 0, False
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return found
    with file:
        for line in iter(lambda: file.readline(MOST_BYTES), b""):
            content = line.rstrip(b"\r\n")
            seal = _SEAL.search(content)
            sound = _matches(content, seal) if seal else not checked
            document = _document(content) if sound else None
            checked = checked or (seal is not None and sound)
            if document is not None:
                document.pop("crc", None)
                found.append(document)
            elif content:
                damaged += 1
    if damaged:
        shown = printable(str(path))
        logger.warning("%s: lines torn or damaged, and left out: %d", shown, damaged)
    return found


def _matches(content: bytes, seal: re.Match[bytes]) -> bool:
    return zlib.crc32(content[: seal.start()]) == int(seal.group(1), 16)


def _document(content: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
