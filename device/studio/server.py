"""The server around a studio: one process, one event loop, a few threads."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from dataclasses import dataclass
from typing import Any, AsyncIterator, Callable, Sequence

import anyio.to_thread
import uvicorn
from starlette.routing import Router

from mobiletl.device.errors import UsageError
from mobiletl.device.printable import printable
from mobiletl.device.studio.downloads import Downloads
from mobiletl.device.studio.guard import Guard
from mobiletl.device.studio.pages import Pages
from mobiletl.device.studio.pairing import Pairing
from mobiletl.device.studio.policy import Policy, is_loopback, own_names
from mobiletl.device.studio.protocol import ImpatientProtocol
from mobiletl.device.studio.routes import table
from mobiletl.device.studio.streams import Bell, Streams
from mobiletl.device.studio.studio import Studio
from mobiletl.device.studio.visitors import Visitors

# Each has a stack, and decodes or waits for the disk.
THREADS = 8
MOST_CONNECTIONS = 96
KEEP_ALIVE_SECONDS = 15
LONGEST_HEAD = 16_384
SHUTDOWN_SECONDS = 3


@dataclass(frozen=True)
class Place:
    """Where the server listens, and which other names it may be asked by."""

    host: str
    port: int
    allowed: Sequence[str] = ()


class _Server(uvicorn.Server):
    """Ends what would never end when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Take a signal."""
        self._streams.ending = True
        super().handle_exit(sig, frame)


class StudioServer:
    """Serves a studio until it is told to stop; `pairing` is None on loopback."""

    def __init__(self, studio: Studio, place: Place) -> None:
        """Take the port; raises UsageError if that is not possible."""
        self._studio = studio
        self.socket = _bound(place)
        self.port = int(self.socket.getsockname()[1])
        self.pairing = None if is_loopback(place.host) else Pairing()
        visitors = Visitors(studio.project.visitors)
        # Cookies know no ports: two studios on one board each have their own.
        cookie = f"mobiletl-{self.port}"
        self._bell = Bell()
        streams = Streams(studio, self._bell)
        pages = Pages(visitors, self.pairing, cookie)
        rows = [*pages.table(), *table(studio, streams, Downloads(studio))]
        router = Router(rows, redirect_slashes=False, lifespan=_lifespan)
        self.app = Guard(router, Policy(own_names(place.allowed)), visitors, cookie)
        self._server = _Server(_config(self.app), streams)

    def run(self) -> None:
        """Serve; returns after SIGINT or SIGTERM."""
        self._studio.start(self._bell.ring)
        # uvicorn raises a signal once more when it has ended; by then everything is in order.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda number, frame: None)
        self._server.run(sockets=[self.socket])

    def stop(self) -> None:
        """Have `run` return; may be called from any thread."""
        self._server.handle_exit(0, None)


@contextlib.asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


def _config(app: Callable[..., Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        backlog=64,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=LONGEST_HEAD,
    )


def _bound(place: Place) -> socket.socket:
    """Return a socket that listens at `place`; raises UsageError."""
    try:
        found = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        # Named, or asyncio does not see that it is TCP and leaves Nagle's algorithm on: an answer
        # of two writes, a head and a body, then takes 40 ms longer.
        taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise UsageError(
            f"--host {printable(place.host)} is no address of this board ({error.strerror})"
        ) from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise UsageError(
            f"port {place.port} of {printable(place.host)} cannot be had ({error.strerror}); name "
            "another one with --port"
        ) from error
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return taken
