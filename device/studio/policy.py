"""What a request must be like before anything else looks at it.

Host is compared with the names that this board has, so that a page of a stranger whose name was
made to point here (DNS rebinding) gets nothing. Origin and a header of our own keep the pages of
others from posting. The browser's own word for where a request comes from (Sec-Fetch-Site) keeps
them from embedding the camera, also those on another port of this board, whose requests carry
our cookie.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from mobiletl.device.studio.refused import Refused

METHODS = ("GET", "POST")
LONGEST_PATH = 300
LONGEST_QUERY = 1000
OWN_HEADER = "x-mobiletl"
# What never stands in an address of ours, in the form in which it was sent.
_ODD = re.compile(rb"%(?:2f|5c|00|25)|\\|//|(?:^|/)\.\.?(?:/|$)|[^\x21-\x7e]", re.IGNORECASE)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?")

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
UNCACHED = "no-store"


def is_loopback(host: str) -> bool:
    """Return whether a server on `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_names(allowed: Sequence[str] = ()) -> frozenset[str]:
    """Return the names under which this board may be asked, `allowed` ones among them.

    Addresses need no list: the one that a connection has arrived at is ours.
    """
    name = socket.gethostname().lower().rstrip(".")
    short = name.split(".")[0]
    names = {"localhost", name, short, f"{short}.local", f"{short}.lan", f"{short}.home"}
    return frozenset(name for name in {*names, *(one.lower() for one in allowed)} if name)


@dataclass(frozen=True)
class Policy:
    """Checks heads of requests; `names` are those of `own_names`."""

    names: frozenset[str]

    def check(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Raise Refused for a request that a browser on a page of ours would not send."""
        if scope["method"] not in METHODS:
            raise Refused(405, "only GET and POST are served")
        raw = scope.get("raw_path") or scope["path"].encode("utf-8")
        if len(raw) > LONGEST_PATH or len(scope["query_string"]) > LONGEST_QUERY:
            raise Refused(414, "the address is too long")
        if _ODD.search(raw):
            raise Refused(400, "the address has signs in it that none of ours has")
        self._check_host(scope, headers.get("host", ""))
        self._check_origin(scope["method"], scope["path"], headers)
        if scope["method"] == "POST":
            _check_length(headers)

    def _check_host(self, scope: Mapping[str, Any], host: str) -> None:
        found = _HOST.fullmatch(host.lower())
        if found is not None:
            name = found["name"].strip("[]").rstrip(".")
            here = scope.get("server") or ("", 0)
            # Behind a forwarder (ssh -L) the port is another one than ours.
            if name in self.names or _same_address(name, here[0]):
                return
        raise Refused(
            421,
            f"this board is not called '{host[:80]}'; ask it by its address, or start the studio "
            "with --allow-host and that name",
        )

    def _check_origin(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        ours = origin is not None and origin.lower() in (f"http://{host}", f"https://{host}")
        if origin is not None and not ours:
            raise Refused(403, "another page's request is not served")
        if method == "POST":
            if not ours:
                raise Refused(403, "a POST needs the Origin header of this page")
            if headers.get(OWN_HEADER) != "1":
                raise Refused(403, "a POST needs the header X-Mobiletl: 1")
        site = headers.get("sec-fetch-site", "none")
        if site in ("same-origin", "none"):
            return
        # A link to the page itself may stand anywhere.
        if path != "/" or headers.get("sec-fetch-mode") != "navigate":
            raise Refused(403, "another page's request is not served")


def _check_length(headers: Mapping[str, str]) -> None:
    length = headers.get("content-length")
    if "transfer-encoding" in headers:
        if length is not None:
            raise Refused(400, "a request has a length or is chunked, not both")
        return
    if length is None:
        raise Refused(411, "a POST needs a Content-Length")
    if not re.fullmatch(r"\d{1,12}", length):
        raise Refused(400, "Content-Length is no number")


def _same_address(name: str, here: str) -> bool:
    """Return whether `name` is the address at which this very connection has arrived."""
    try:
        named, own = ipaddress.ip_address(name), ipaddress.ip_address(here.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(own, "ipv4_mapped", None)
    return named in (own, mapped)
