"""What comes with a request, read within bounds: JSON documents, and files that go to the disk."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, AsyncIterator, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from mobiletl.device.bundle.schema import Check, fields
from mobiletl.device.studio.files import no_space, remove_quietly
from mobiletl.device.studio.refused import Refused

MOST_JSON_BYTES = 256_000
# Between two pieces, and for the whole of a body.
PIECE_SECONDS = 10.0
JSON_SECONDS = 20.0
FILE_SECONDS = 180.0
# Pieces are collected to so many bytes before the disk sees them.
BLOCK = 262_144


async def document(request: Request, table: Mapping[str, Check]) -> dict[str, Any]:
    """Return the JSON object that comes with a POST; raises Refused for any other.

    `table` has a check for each key; a key that may be missing is checked as null.
    """
    content = bytearray()
    async for piece in _pieces(request, MOST_JSON_BYTES, JSON_SECONDS):
        content += piece
    try:
        found = json.loads(content.decode("utf-8")) if content else {}
    except (ValueError, RecursionError):
        raise Refused(400, "the request is no JSON") from None
    if not isinstance(found, dict):
        raise Refused(400, "the request is no JSON object")
    known = {key: found.get(key) for key in table}
    problems: list[str] = []
    fields(table)(known, "", problems)
    if problems:
        raise Refused(400, "; ".join(problems[:3]))
    return known


async def save(request: Request, path: Path, most: int) -> None:
    """Write the body of a request to the new file `path`; raises Refused, NoSpace.

    A file of more than `most` bytes is refused as soon as that is known, and nothing is left of it.
    """
    block = bytearray()
    size = 0
    try:
        file = await run_in_threadpool(path.open, "xb")
        try:
            async for piece in _pieces(request, most, FILE_SECONDS):
                size += len(piece)
                block += piece
                if len(block) >= BLOCK:
                    await run_in_threadpool(file.write, bytes(block))
                    block.clear()
            await run_in_threadpool(file.write, bytes(block))
        finally:
            await run_in_threadpool(file.close)
    except OSError as error:
        remove_quietly(path)
        raise no_space(path, error) from error
    except BaseException:
        remove_quietly(path)
        raise
    if not size:
        remove_quietly(path)
        raise Refused(400, "the request is empty, expected the bytes of a picture")


def asked(request: Request, name: str, default: int, most: int) -> int:
    """Return a whole number of the query, 0 to `most`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refused(400, f"{name} is no whole number")
    return min(int(text), most)


async def _pieces(request: Request, most: int, seconds: float) -> AsyncIterator[bytes]:
    """Yield the body piece by piece; raises Refused if it is too large or too slow."""
    said = request.headers.get("content-length")
    if said is not None and int(said) > most:
        raise Refused(413, _too_large(most))
    size = 0
    until = time.monotonic() + seconds
    stream = request.stream().__aiter__()
    while True:
        left = min(PIECE_SECONDS, until - time.monotonic())
        try:
            piece = await asyncio.wait_for(stream.__anext__(), max(left, 0.01))
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise Refused(408, "the request comes too slowly") from None
        except ClientDisconnect:
            raise Refused(400, "the request broke off") from None
        size += len(piece)
        if size > most:
            raise Refused(413, _too_large(most))
        yield piece


def _too_large(most: int) -> str:
    return f"the request is too large, expected at most {most / 1e6:.1f} MB"
