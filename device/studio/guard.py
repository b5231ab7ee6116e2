"""The outermost part of the server: nothing behind it sees a request that is not in order.

It checks the head (policy.py) and the session, puts the security headers on every answer, and turns
whatever is raised behind it into one line of JSON. What is no answer on purpose is logged.
"""

from __future__ import annotations

import json
import logging
from http.cookies import CookieError, SimpleCookie
from typing import Any, Awaitable, Callable, Mapping, MutableMapping

from starlette.exceptions import HTTPException

from mobiletl.device.errors import MobileTLError
from mobiletl.device.studio.policy import SECURITY_HEADERS, UNCACHED, Policy
from mobiletl.device.studio.refused import Refused, refused
from mobiletl.device.studio.visitors import Visitors

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# What a device may ask that is not paired yet.
OPEN_PATHS = ("/", "/pair")
OPEN_FOLDER = "/static/"
MOST_HEADERS = 64

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: App, policy: Policy, visitors: Visitors, cookie: str) -> None:
        """`cookie` is the name of the session's cookie."""
        self._app, self._policy = app, policy
        self._visitors, self._cookie = visitors, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        try:
            headers = _headers(scope)
            self._policy.check(scope, headers)
            scope["paired"] = self._visitors.knows(token_of(headers, self._cookie))
            path = scope["path"]
            if not scope["paired"] and path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
                raise Refused(401, "this device is not paired; open the page and enter the code")
            await self._app(scope, receive, answer.send)
        except Refused as error:
            await answer.refuse(error)
        except MobileTLError as error:
            await answer.refuse(refused(error))
        except HTTPException as error:
            await answer.refuse(Refused(error.status_code, _WORDS.get(error.status_code, "")))
        except Exception:
            logger.exception("a request failed: %s %r", scope["method"], scope["path"][:200])
            await answer.refuse(Refused(500, "the studio failed; its log on the board says why"))


_WORDS = {404: "there is nothing at this address", 405: "this address is asked in another way"}


class _Answer:
    """What goes back, with the headers that every answer has."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            headers = list(message.get("headers", []))
            given = {name.lower() for name, _ in headers}
            if b"cache-control" not in given:
                headers.append((b"cache-control", UNCACHED.encode("ascii")))
            headers += [
                (name.encode("ascii"), value.encode("ascii"))
                for name, value in SECURITY_HEADERS.items()
            ]
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, error: Refused) -> None:
        """Send the line, unless an answer is on its way already: then it breaks off."""
        if self._begun:
            return
        body = json.dumps({"error": error.text}).encode("ascii")
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
        ]
        headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in error.headers]
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def token_of(headers: Mapping[str, str], cookie: str) -> str:
    """Return what the session's cookie holds, or an empty text."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(cookie)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by their lower-case names; raises Refused for odd ones."""
    found: dict[str, str] = {}
    if len(scope["headers"]) > MOST_HEADERS:
        raise Refused(431, "there are too many headers")
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in found and key in _SINGLE:
            raise Refused(400, f"the header {key} comes twice")
        found[key] = value.decode("latin-1")
    return found


# Two of these would let two programs on the way understand two things.
_SINGLE = ("host", "origin", "content-length", "transfer-encoding", "x-mobiletl", "cookie")
