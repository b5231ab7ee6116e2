"""Time limits of connections that the server underneath does not have.

uvicorn waits for the head of a request, and for a client that does not read, as long as they like.
Both cost a descriptor and memory on a small board, so here they cost the client its connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
STALLED_SECONDS = 20.0
# A browser has six connections to one host for each window.
MOST_OF_ONE_ADDRESS = 48

_open: Counter[str] = Counter()


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 with clocks: one for the head of a request, one for what is not read."""

    _clock: Any = None
    _stall: Any = None
    _address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and begin to wait for a request."""
        super().connection_made(transport)
        self._address = str((transport.get_extra_info("peername") or ("",))[0])
        _open[self._address] += 1
        if _open[self._address] > MOST_OF_ONE_ADDRESS:
            transport.abort()
            return
        self._clock = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        _open[self._address] -= 1
        if not _open[self._address]:
            del _open[self._address]
        for clock in (self._clock, self._stall):
            if clock is not None:
                clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; the first ones after an answer begin a new request."""
        if not self._is_serving() and self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        super().data_received(data)
        if self._is_serving() and self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def _is_serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _too_slow(self) -> None:
        self._clock = None
        if not self._is_serving():
            self.transport.abort()
