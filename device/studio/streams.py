"""What goes on and on: the events that a page listens to, and the camera."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from typing import AsyncIterator, Iterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.state import state
from mobiletl.device.studio.studio import Studio

MOST_EVENTS, MOST_CAMERAS, MOST_UPLOADS = 16, 8, 8
# Seconds between looks at what has changed; every third look compares the state.
LOOK = 0.1
LOOKS_PER_STATE = 3
# A line that says nothing, so that a way that has broken is noticed.
SILENCE = 15.0
BOUNDARY = "mobiletl-frame"


class Slots:
    """How many may do one thing at a time; belongs to the event loop."""

    def __init__(self, most: int, what: str) -> None:
        """`what` ends the sentence that there are too many."""
        self._left, self._what = most, what

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a slot for a while; raises Refused (503) if none is left."""
        self.check()
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1

    def check(self) -> None:
        """Raise Refused if no slot is left."""
        if self._left <= 0:
            raise Refused(503, f"too many {self._what} at the same time; close some")


class Bell:
    """Wakes what waits in the event loop when a thread rings."""

    def __init__(self) -> None:
        """Belong to no loop yet."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all; may be called from any thread, and before and after there is a loop."""
        if self._loop is not None and self._waiting and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, at most so long."""
        self._loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


class Streams:
    """Makes the responses that do not end."""

    def __init__(self, studio: Studio, bell: Bell) -> None:
        """Serve nothing yet."""
        self._studio, self._bell = studio, bell
        self._events = Slots(MOST_EVENTS, "pages are open")
        self._cameras = Slots(MOST_CAMERAS, "pages look through the camera")
        self._shared: tuple[float, str] = (0.0, "")
        self.ending = False

    async def events(self, request: Request) -> StreamingResponse:
        """Answer GET /api/events."""
        self._events.check()
        return StreamingResponse(
            self._guarded(self._events, self._event_lines()),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )

    async def camera(self, request: Request) -> StreamingResponse:
        """Answer GET /camera.mjpg."""
        if self._studio.feed.source is None:
            raise Refused(404, "the studio has no camera; start it with --camera")
        self._cameras.check()
        return StreamingResponse(
            self._guarded(self._cameras, self._frames()),
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
        )

    async def _guarded(self, slots: Slots, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        with slots.one():
            async for piece in pieces:
                yield piece

    async def _event_lines(self) -> AsyncIterator[bytes]:
        live = self._studio.live
        shown, answered, spoken, look = "", -1, time.monotonic(), 0
        while not self.ending:
            live.watch()
            if look % LOOKS_PER_STATE == 0:
                document = await self._state()
                if document != shown:
                    shown, spoken = document, time.monotonic()
                    yield _event("state", document)
            number, answer = live.answer
            if number != answered:
                answered, spoken = number, time.monotonic()
                yield _event("answer", json.dumps(answer))
            if time.monotonic() - spoken > SILENCE:
                spoken = time.monotonic()
                yield b": still here\n\n"
            look += 1
            await asyncio.sleep(LOOK)

    async def _state(self) -> str:
        """Return the state as JSON, made at most once in an interval for all pages."""
        now = time.monotonic()
        if now - self._shared[0] >= LOOK * LOOKS_PER_STATE * 0.9:
            document = await run_in_threadpool(state, self._studio)
            self._shared = (now, json.dumps(document))
        return self._shared[1]

    async def _frames(self) -> AsyncIterator[bytes]:
        feed = self._studio.feed
        number = 0
        while not self.ending:
            shot = feed.newest()
            if shot is None or shot.number == number:
                await self._bell.wait(1.0)
                continue
            number = shot.number
            content = await run_in_threadpool(feed.jpeg, shot)
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}"
            yield head.encode("ascii") + b"\r\n\r\n" + content + b"\r\n"


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()
