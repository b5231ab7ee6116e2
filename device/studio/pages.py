"""The page and its files, and how a device is paired.

Files are found once, when the server starts: a request names one of them or gets nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mobiletl.device.bundle.schema import text
from mobiletl.device.studio.pairing import Pairing, TooMany
from mobiletl.device.studio.refused import Refused
from mobiletl.device.studio.requests import document
from mobiletl.device.studio.visitors import LIFE_SECONDS, Visitors

STATIC = Path(__file__).with_name("static")
PAGE, PAIRING_PAGE = "index.html", "pair.html"
MEDIA: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
}
# Asked for again each time, and answered with nothing where it is the same still.
CHECKED = "no-cache"


@dataclass(frozen=True)
class _File:
    path: Path
    media: str
    tag: str


class Pages:
    """The endpoints that need no session."""

    def __init__(self, visitors: Visitors, pairing: Pairing | None, cookie: str) -> None:
        """A `pairing` of None gives whoever comes a session: only this machine can come."""
        self._visitors, self._pairing, self._cookie = visitors, pairing, cookie
        self._files = {
            path.name: _File(path, MEDIA[path.suffix], _tag(path))
            for path in sorted(STATIC.glob("*"))
            if path.suffix in MEDIA
        }

    def table(self) -> list[Route]:
        """Return one row for each address."""
        return [
            Route("/", self.page, methods=["GET"]),
            Route("/pair", self.pair, methods=["POST"]),
            Route("/static/{name}", self.static, methods=["GET"]),
        ]

    async def page(self, request: Request) -> Response:
        """Answer GET /."""
        if request.scope["paired"]:
            return await self._file(request, PAGE)
        if self._pairing is not None:
            return await self._file(request, PAIRING_PAGE)
        response = await self._file(request, PAGE)
        self._give_cookie(response, await run_in_threadpool(self._visitors.begin))
        return response

    async def pair(self, request: Request) -> Response:
        """Answer POST /pair."""
        found = await document(request, {"code": text(r"(?s).{1,40}", "a code")})
        if self._pairing is not None:
            address = request.client.host if request.client else ""
            code = "".join(found["code"].split()).replace("-", "")
            right = self._pairing.attempt(code, address)
            if isinstance(right, TooMany):
                raise Refused(
                    429,
                    f"too many codes were tried; wait {right.seconds} s",
                    [("retry-after", str(right.seconds))],
                )
            if not right:
                raise Refused(403, "this is not the code that the board shows")
        response = Response(status_code=204)
        self._give_cookie(response, await run_in_threadpool(self._visitors.begin))
        return response

    async def static(self, request: Request) -> Response:
        """Answer GET /static/NAME."""
        return await self._file(request, request.path_params["name"])

    async def _file(self, request: Request, name: str) -> Response:
        found = self._files.get(name)
        if found is None:
            raise Refused(404, "there is no such file")
        headers = {"etag": found.tag, "cache-control": CHECKED}
        if name not in (PAGE, PAIRING_PAGE) and request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        content = await run_in_threadpool(found.path.read_bytes)
        return Response(content, media_type=found.media, headers=headers)

    def _give_cookie(self, response: Response, token: str) -> None:
        response.set_cookie(
            self._cookie, token, max_age=LIFE_SECONDS, httponly=True, samesite="strict", path="/"
        )


def _tag(path: Path) -> str:
    return f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"'
