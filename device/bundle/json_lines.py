"""Files of one JSON object a line, as runs write them: read line by line, in bounded memory."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from mobiletl.device.bundle.outside_file import OddFile, open_outside
from mobiletl.device.bundle.strict_json import BadJson, parse_json

# A line has 300 bytes; `started` also names every class.
MOST_LINE_BYTES = 1 << 20
# A step a second for a month has about 800 MB.
MOST_FILE_BYTES = 1 << 30


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file's lines; whatever else a line holds is left out.

    A file that is missing, a pipe or far too large has none. Raises OSError.
    """
    try:
        file = open_outside(path, MOST_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError, OddFile):
        return
    with BufferedReader(file) as lines:
        while True:
            line = lines.readline(MOST_LINE_BYTES)
            if not line:
                return
            if len(line) == MOST_LINE_BYTES and not line.endswith(b"\n"):
                _skip_rest(lines)
                continue
            try:
                document = parse_json(line, raw_bytes=True)
            except BadJson:
                continue
            if isinstance(document, dict):
                yield document


def _skip_rest(lines: BinaryIO) -> None:
    """Go to the end of a line that is too long."""
    while True:
        piece = lines.readline(MOST_LINE_BYTES)
        if not piece or piece.endswith(b"\n"):
            return
