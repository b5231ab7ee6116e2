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
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Mapping

from mobiletl.device.bundle.outside_file import OddFile, open_outside
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.printable import printable

_SEAL = re.compile(rb', "crc": "([0-9a-f]{8})"\}\Z')
# A line has 300 bytes; `started` also names every class.
MOST_LINE_BYTES = 1 << 20
# A step a second for a month has about 800 MB.
MOST_FILE_BYTES = 1 << 30

logger = logging.getLogger(__name__)


def sealed(document: Mapping[str, Any]) -> bytes:
    """Return the line of `document`, which has a key at least; ValueError for a NaN."""
    content = json.dumps(document, allow_nan=False)[:-1].encode("utf-8")
    return content + b', "crc": "%08x"}\n' % zlib.crc32(content)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the sound lines of a file; the log says how many others are left out.

    Raises OSError for a file that cannot be read; one that is missing, a pipe or far too large has
    no lines.
    """
    found: list[dict[str, Any]] = []
    damaged, checked = 0, False
    try:
        file = open_outside(path, MOST_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError, OddFile):
        return found
    with BufferedReader(file) as lines:
        for line in _whole(lines):
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


def _whole(lines: BinaryIO) -> Iterator[bytes]:
    """Yield the lines; of one that is too long, its beginning only."""
    while True:
        line = piece = lines.readline(MOST_LINE_BYTES)
        if not line:
            return
        while piece and not piece.endswith(b"\n"):
            piece = lines.readline(MOST_LINE_BYTES)
        yield line


def _matches(content: bytes, seal: re.Match[bytes]) -> bool:
    return zlib.crc32(content[: seal.start()]) == int(seal.group(1), 16)


def _document(content: bytes) -> dict[str, Any] | None:
    try:
        document = parse_json(content, raw_bytes=True)
    except BadJson:
        return None
    return document if isinstance(document, dict) else None
