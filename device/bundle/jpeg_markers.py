"""What a JPEG's markers say of the memory and the time that its decoding takes (ITU-T T.81).

A decoder goes through a picture of one scan row by row. Of a picture of several scans, as
progressive ones are, it keeps every coefficient, 2 bytes each, however small the result is to be.
Letters: H x W the picture in pixels.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

_START_OF_SCAN = 0xDA
_END = 0xD9
# Markers without a length: restarts, and what begins and ends a picture.
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
# Start of frame, but for the tables that lie between them.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BLOCK_BYTES = 8 * 8 * 2
_PIECE = 1 << 16
# In the data of a scan 0xFF is followed by 0, by a restart marker, or by itself, as filling.
_MARKER_IN_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)


@dataclass(frozen=True)
class JpegMarkers:
    """`coefficient_bytes` is what the decoder keeps of all scans, 0 where there is one."""

    coefficient_bytes: int


def read_markers(file: BinaryIO) -> JpegMarkers:
    """Read up to the first scan of a JPEG; what cannot be read is left to the decoder to refuse."""
    file.seek(2)
    frame, progressive = b"", False
    while True:
        marker, segment = _next_segment(file)
        if marker in _FRAMES:
            frame, progressive = segment, marker in _PROGRESSIVE
        elif marker in (None, _END):
            return JpegMarkers(0)
        elif marker == _START_OF_SCAN:
            several = progressive or bool(segment and len(frame) > 5 and segment[0] < frame[5])
            return JpegMarkers(_coefficient_bytes(frame) if several else 0)


def count_scans(file: BinaryIO, most: int) -> int:
    """Return how many scans a JPEG has, but count no further than one more than `most`."""
    file.seek(2)
    scans = 0
    while scans <= most:
        marker, _ = _next_segment(file)
        if marker in (None, _END):
            break
        if marker == _START_OF_SCAN:
            scans += 1
            _skip_scan(file)
    return scans


def _next_segment(file: BinaryIO) -> tuple[int | None, bytes]:
    """Return the next marker and its segment, without the length; None at the end."""
    while True:
        byte = file.read(1)
        if not byte:
            return None, b""
        if byte != b"\xff":
            continue
        while byte == b"\xff":
            byte = file.read(1)
        if not byte:
            return None, b""
        marker = byte[0]
        if marker == _END:
            return marker, b""
        if marker and marker not in _BARE:
            break
    length = file.read(2)
    if len(length) < 2:
        return None, b""
    return marker, file.read(max(0, struct.unpack(">H", length)[0] - 2))


def _skip_scan(file: BinaryIO) -> None:
    """Go to the marker that follows the data of a scan."""
    while True:
        piece = file.read(_PIECE)
        found = _MARKER_IN_SCAN.search(piece)
        if found is not None:
            file.seek(found.start() - len(piece), 1)
            return
        if len(piece) < _PIECE:
            return
        # A marker may lie across two pieces.
        file.seek(-1, 1)


def _coefficient_bytes(frame: bytes) -> int:
    """Return what all coefficients take, by the segment of a start of frame."""
    if len(frame) < 6:
        return 0
    _, height, width, count = struct.unpack(">BHHB", frame[:6])
    factors = [(byte >> 4, byte & 15) for byte in frame[7 : 6 + 3 * count : 3]]
    across = max((one for one, _ in factors), default=0) or 1
    down = max((one for _, one in factors), default=0) or 1
    blocks = 0
    for horizontal, vertical in factors:
        # Whole units of all components are coded, and a unit has `horizontal` x `vertical` blocks.
        units = -(-width // (8 * across)) * -(-height // (8 * down))
        blocks += units * horizontal * vertical
    return blocks * _BLOCK_BYTES
