"""Hostile requests, each refused with one line, and the studio serves on.

The table below is the list: a name, what is sent, and the statuses that are right. None stands for
a connection that the studio ends without an answer. Raw bytes go through a plain socket, because a
well-behaved client would not send them.
"""

from __future__ import annotations

import io
import socket
import struct
import zlib
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Union

import pytest

for package in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

import httpx  # noqa: E402
from PIL import Image  # noqa: E402

from runtime_tests.support.board.studio_service import (  # noqa: E402
    LOOPBACK,
    Client,
    cameras_folder,
    served,
)
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle  # noqa: E402

SECRET = b"nobody may read this"
MARKUP = "<img src=x onerror=alert(1)>"


class Place(NamedTuple):
    """A served studio with one class and one picture, and a client with a session."""

    client: Client
    folder: Path
    picture: str

    @property
    def port(self) -> int:
        return self.client.port


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hostile")
    bundle = write_tiny_bundle(folder / "bundle")
    (folder / "secret.jpg").write_bytes(SECRET)
    camera = cameras_folder(folder / "camera")
    with served(bundle, folder / "project", camera) as server, Client(server.port) as client:
        client.opened().ask("classes", name="cat")
        answer = client.add("cat", _png(30, 20))
        yield Place(client, folder, answer.json()["id"])


def _png(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(out, "PNG")
    return out.getvalue()


def _bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few kilobytes whose header claims `width` x `height` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sealed = kind + content
        return struct.pack(">I", len(content)) + sealed + struct.pack(">I", zlib.crc32(sealed))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _raw(place: Place, content: bytes, seconds: float = 15.0) -> int | None:
    """Send bytes as they are; return the status, None for a connection that is just closed."""
    with socket.create_connection((LOOPBACK, place.port), seconds) as connection:
        try:
            connection.sendall(content)
            answer = connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return None
    return int(answer.split()[1]) if answer else None


def _head(place: Place, start: str, *lines: str, host: str = "") -> bytes:
    """Return the head of a request with a session's cookie, with these lines more."""
    cookies = "; ".join(f"{name}={value}" for name, value in place.client.cookies.items())
    host = host or f"{LOOPBACK}:{place.port}"
    own = [f"{start} HTTP/1.1", f"Host: {host}", f"Cookie: {cookies}"]
    return ("\r\n".join([*own, *lines]) + "\r\n\r\n").encode("latin-1")


def _post(place: Place, path: str, document: Any, **headers: str | None) -> int:
    """POST with headers that are other than the page's; None leaves one out."""
    given: dict[str, str] = {**place.client.headers}
    for name, value in headers.items():
        given.pop(name.replace("_", "-"), None)
        if value is not None:
            given[name.replace("_", "-")] = value
    address = f"http://{LOOPBACK}:{place.port}{path}"
    answer = httpx.post(address, json=document, headers=given, cookies=place.client.cookies)
    return answer.status_code


def _get(place: Place, path: str, **headers: str) -> int:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return place.client.get(path, headers=given).status_code


def _stranger(place: Place, method: str, path: str) -> int:
    """Ask without a session."""
    with Client(place.port) as stranger:
        return stranger.request(method, path, json={} if method == "POST" else None).status_code


def _upload(place: Place, content: bytes, name: str = "cat") -> int:
    return place.client.add(name, content).status_code


def _endless(place: Place) -> int:
    """Send chunks without end, as far as the studio takes them."""

    def chunks() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"\xff\xd8\xff" + b"x" * 1_000_000

    try:
        return place.client.post("/api/pictures?class=cat", content=chunks()).status_code
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return 413  # the studio has closed the connection while we were sending


def _named(place: Place, name: Any) -> int:
    return _post(place, "/api/classes", {"name": name})


def _json(place: Place, path: str, content: bytes) -> int:
    return place.client.post(path, content=content).status_code


Sent = Callable[[Place], Union[int, None]]
GET, POST = "GET", "POST"
CASES: tuple[tuple[str, Sent, tuple[int | None, ...]], ...] = (
    # Without a session.
    ("no session: state", lambda p: _stranger(p, GET, "/api/state"), (401,)),
    ("no session: events", lambda p: _stranger(p, GET, "/api/events"), (401,)),
    ("no session: camera", lambda p: _stranger(p, GET, "/camera.mjpg"), (401,)),
    ("no session: a picture", lambda p: _stranger(p, GET, f"/api/pictures/{p.picture}"), (401,)),
    ("no session: a class more", lambda p: _stranger(p, POST, "/api/classes"), (401,)),
    ("no session: training", lambda p: _stranger(p, POST, "/api/train"), (401,)),
    ("no session: a version", lambda p: _stranger(p, GET, "/api/versions/x/state"), (401,)),
    (
        "a cookie that was made up",
        lambda p: _raw(
            p,
            f"GET /api/state HTTP/1.1\r\nHost: {LOOPBACK}:{p.port}\r\n"
            f"Cookie: mobiletl-{p.port}={'A' * 43}\r\n\r\n".encode(),
        ),
        (401,),
    ),
    # Pages of others.
    (
        "another page's post",
        lambda p: _post(p, "/api/teach", {}, origin="http://evil.example"),
        (403,),
    ),
    ("a post without Origin", lambda p: _post(p, "/api/teach", {}, origin=None), (403,)),
    ("a sandboxed page's post", lambda p: _post(p, "/api/teach", {}, origin="null"), (403,)),
    (
        "a post from another port of this board",
        lambda p: _post(p, "/api/teach", {}, origin=f"http://{LOOPBACK}:1"),
        (403,),
    ),
    ("a form's post", lambda p: _post(p, "/api/teach", {}, x_mobiletl=None), (403,)),
    (
        "the camera embedded elsewhere",
        lambda p: _get(p, "/camera.mjpg", sec_fetch_site="cross-site", sec_fetch_mode="no-cors"),
        (403,),
    ),
    (
        "the camera embedded on another port of this board",
        lambda p: _get(p, "/camera.mjpg", sec_fetch_site="same-site", sec_fetch_mode="no-cors"),
        (403,),
    ),
    ("another page's read", lambda p: _get(p, "/api/state", origin="http://evil.example"), (403,)),
    # Names that point here.
    (
        "DNS rebinding",
        lambda p: _raw(p, _head(p, "GET /api/state", host=f"evil.example:{p.port}")),
        (421,),
    ),
    (
        "DNS rebinding of a post",
        lambda p: _post(p, "/api/teach", {}, host="evil.example", origin="http://evil.example"),
        (421,),
    ),
    ("no Host", lambda p: _raw(p, b"GET / HTTP/1.1\r\n\r\n"), (400, 421)),
    ("no Host, HTTP/1.0", lambda p: _raw(p, b"GET / HTTP/1.0\r\n\r\n"), (400, 421)),
    ("two Hosts", lambda p: _raw(p, _head(p, "GET /api/state", "Host: evil.example")), (400,)),
    ("another address as Host", lambda p: _raw(p, _head(p, "GET /", host="10.0.0.1")), (421,)),
    ("markup as Host", lambda p: _raw(p, _head(p, "GET /", host="<b>")), (400, 421)),
    ("user and password in Host", lambda p: _raw(p, _head(p, "GET /", host="a@127.0.0.1")), (421,)),
    # Paths.
    (
        "traversal in a static name",
        lambda p: _raw(p, _head(p, "GET /static/../../secret.jpg")),
        (400,),
    ),
    (
        "encoded traversal",
        lambda p: _raw(p, _head(p, "GET /static/%2e%2e%2f%2e%2e%2fsecret.jpg")),
        (400,),
    ),
    (
        "doubly encoded traversal",
        lambda p: _raw(p, _head(p, "GET /static/%252e%252e%252fsecret.jpg")),
        (400,),
    ),
    ("a backslash in a path", lambda p: _raw(p, _head(p, "GET /static/..\\..\\x")), (400,)),
    ("a null byte in a path", lambda p: _raw(p, _head(p, "GET /static/page.js%00.png")), (400,)),
    (
        "a path of the disk as static",
        lambda p: _raw(p, _head(p, "GET /static//etc/passwd")),
        (400,),
    ),
    (
        "a whole address as path",
        lambda p: _raw(p, _head(p, "GET http://evil.example/")),
        (400, 404),
    ),
    ("traversal in a picture's id", lambda p: _get(p, "/api/pictures/..%2f..%2fsecret"), (400,)),
    ("a file name as picture's id", lambda p: _get(p, "/api/pictures/secret.jpg"), (404,)),
    ("traversal in a version's id", lambda p: _get(p, "/api/versions/../../x/state"), (400, 404)),
    ("a folder as version's id", lambda p: _get(p, "/api/versions/cat/state"), (404,)),
    (
        "a version's id that is a flag",
        lambda p: _get(p, "/api/versions/--data=x/review"),
        (404,),
    ),
    (
        "traversal in the version to use",
        lambda p: _post(p, "/api/versions/use", {"id": "../../project"}),
        (400,),
    ),
    (
        "traversal in the version to delete",
        lambda p: _post(p, "/api/versions/delete", {"id": "taught-20260101-000000/../.."}),
        (400,),
    ),
    ("an address of 10,000 signs", lambda p: _get(p, "/" + "a" * 10_000), (414,)),
    ("a query of 10,000 signs", lambda p: _get(p, "/api/pictures?class=" + "a" * 10_000), (414,)),
    # Names of classes.
    ("traversal as class", lambda p: _named(p, "../../outside"), (400,)),
    ("a path as class", lambda p: _named(p, "/tmp/outside"), (400,)),
    ("a dot as class", lambda p: _named(p, ".."), (400,)),
    ("a hidden class", lambda p: _named(p, ".hidden"), (400,)),
    ("a part of a data set as class", lambda p: _named(p, "train"), (400,)),
    ("markup as class", lambda p: _named(p, MARKUP), (400,)),
    ("a null byte in a class", lambda p: _named(p, "a\0b"), (400,)),
    ("a new line in a class", lambda p: _named(p, "a\nb"), (400,)),
    ("an escape sequence in a class", lambda p: _named(p, "\x1b[31mred"), (400,)),
    (
        "half a character as class",
        lambda p: _json(p, "/api/classes", b'{"name": "\\ud800"}'),
        (400,),
    ),
    ("text that runs backwards", lambda p: _named(p, "a\u202egpj.exe"), (400,)),
    ("an endless class name", lambda p: _named(p, "a" * 100_000), (400,)),
    ("a class that is a number", lambda p: _named(p, 7), (400,)),
    ("a class that is a list", lambda p: _named(p, ["cat"]), (400,)),
    ("no class", lambda p: _named(p, None), (400,)),
    (
        "traversal as new name",
        lambda p: _post(p, "/api/classes/rename", {"name": "cat", "to": "../cat"}),
        (400,),
    ),
    (
        "traversal as class to delete",
        lambda p: _post(p, "/api/classes/delete", {"name": ".."}),
        (404,),
    ),
    (
        "traversal as target of a move",
        lambda p: _post(p, "/api/pictures/move", {"ids": [p.picture], "to": "../.."}),
        (404,),
    ),
    (
        "traversal as picture to delete",
        lambda p: _post(p, "/api/pictures/delete", {"ids": ["../../secret.jpg"]}),
        (400,),
    ),
    (
        "recording into a path",
        lambda p: _post(p, "/api/record", {"class": "../x", "on": True}),
        (404,),
    ),
    ("an upload into a path", lambda p: _upload(p, _png(9, 9), "../../outside"), (404,)),
    # Documents.
    ("no JSON", lambda p: _json(p, "/api/classes", b"name=cat"), (400,)),
    ("JSON that is no object", lambda p: _json(p, "/api/classes", b"[1, 2]"), (400,)),
    ("JSON of 100,000 brackets", lambda p: _json(p, "/api/classes", b"[" * 100_000), (400,)),
    ("JSON that is no UTF-8", lambda p: _json(p, "/api/classes", b'{"name": "\xff\xfe"}'), (400,)),
    ("JSON of 1 MB", lambda p: _json(p, "/api/classes", b" " * 1_000_000), (413,)),
    ("minus one epoch", lambda p: _post(p, "/api/train", {"epochs": -1}), (400,)),
    ("a billion epochs", lambda p: _post(p, "/api/train", {"epochs": 10**9}), (400,)),
    ("epochs as a flag", lambda p: _post(p, "/api/train", {"epochs": "--out=/tmp/x"}), (400,)),
    ("minutes that are no number", lambda p: _json(p, "/api/train", b'{"minutes": NaN}'), (400,)),
    ("endless minutes", lambda p: _json(p, "/api/train", b'{"minutes": 1e999}'), (400,)),
    ("a view of nothing", lambda p: _post(p, "/api/camera", {"region": [0, 0, 0, 0]}), (400,)),
    ("a view outside", lambda p: _post(p, "/api/camera", {"region": [0.5, 0.5, 1, 1]}), (400,)),
    ("a view askew", lambda p: _post(p, "/api/camera", {"rotate": 45}), (400,)),
    ("a page before the first", lambda p: _get(p, "/api/pictures?from=-1"), (400,)),
    ("a limit that is no number", lambda p: _get(p, "/api/pictures?limit=1e9"), (400,)),
    # Uploads.
    ("an empty upload", lambda p: _upload(p, b""), (400,)),
    ("a web page as picture", lambda p: _upload(p, b"<html><script>alert(1)</script>"), (415,)),
    ("SVG with a script", lambda p: _upload(p, b"<svg><script>alert(1)</script></svg>"), (415,)),
    (
        "PostScript",
        lambda p: _upload(p, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        (415,),
    ),
    ("a JPEG that is cut", lambda p: _upload(p, _jpeg()[: len(_jpeg()) // 2]), (415,)),
    ("a picture with a page behind it", lambda p: _upload(p, b"\xff\xd8\xff<html>" * 9), (415,)),
    ("a bomb of 900 megapixels", lambda p: _upload(p, _bomb(30_000, 30_000)), (415,)),
    ("a bomb of 36 megapixels", lambda p: _upload(p, _bomb(6000, 6000)), (415,)),
    ("pixels that are missing", lambda p: _upload(p, _bomb(300, 300)), (415,)),
    ("an oversized upload", lambda p: _upload(p, b"\xff\xd8\xff" + b"x" * 33_000_000), (413,)),
    ("an endless upload", _endless, (413,)),
    ("an upload into no class", lambda p: _upload(p, _png(9, 9), ""), (404,)),
    # Methods and headers.
    ("PUT", lambda p: p.client.put("/api/classes", json={}).status_code, (405,)),
    ("DELETE", lambda p: p.client.delete("/api/classes").status_code, (405,)),
    ("TRACE", lambda p: p.client.request("TRACE", "/").status_code, (405,)),
    ("HEAD of an endless stream", lambda p: p.client.head("/camera.mjpg").status_code, (405,)),
    ("a method of one's own", lambda p: p.client.request("BREW", "/").status_code, (405,)),
    ("GET of what changes things", lambda p: _get(p, "/api/classes/delete?name=cat"), (405,)),
    (
        "a method in a header",
        lambda p: _get(p, "/api/classes/delete", x_http_method_override="POST"),
        (405,),
    ),
    ("POST to the state", lambda p: _post(p, "/api/state", {"pictures": 0}), (405,)),
    ("forged events", lambda p: _post(p, "/api/events", {"event": "ended"}), (405,)),
    (
        "a length and chunks",
        lambda p: _raw(
            p,
            _head(
                p,
                "POST /api/teach",
                f"Origin: http://{LOOPBACK}:{p.port}",
                "X-Mobiletl: 1",
                "Content-Length: 4",
                "Transfer-Encoding: chunked",
            )
            + b"0\r\n\r\n",
        ),
        (400,),
    ),
    (
        "two lengths",
        lambda p: _raw(p, _head(p, "POST /pair", "Content-Length: 1", "Content-Length: 2")),
        (400,),
    ),
    (
        "a length below zero",
        lambda p: _raw(p, _head(p, "POST /pair", "Content-Length: -1")),
        (400,),
    ),
    (
        "a header of 1 MB",
        lambda p: _raw(p, _head(p, "GET /", f"X: {'a' * 1_000_000}")),
        (400, None),
    ),
    ("2,000 headers", lambda p: _raw(p, _head(p, "GET /", *["a: b"] * 2000)), (400, 431, None)),
    (
        "a header that begins another answer",
        lambda p: _raw(p, _head(p, "GET /api/state?x=%0d%0aX:1")),
        (200,),
    ),
    (
        "not HTTP",
        lambda p: _raw(p, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        (400, None),
    ),
    (
        "a web socket",
        lambda p: _raw(
            p,
            _head(
                p,
                "GET /api/events",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-Fetch-Site: cross-site",
            ),
        ),
        (400, 403),
    ),
)


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(out, "JPEG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("sent", "statuses"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_it_is_refused(
    place: Place,
    sent: Sent,
    statuses: tuple[int | None, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = _files(place.folder)
    assert sent(place) in statuses
    found = place.client.state()
    assert (found["classes"], found["pictures"]) == ([{"name": "cat", "count": 1}], 1)
    assert found["training"] is None
    assert _files(place.folder) == before
    assert not [record for record in caplog.records if record.exc_info]


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 30
    assert len({name for name, _, _ in CASES}) == len(CASES)


def test_what_is_refused_is_one_line_without_markup(place: Place) -> None:
    answer = place.client.post("/api/classes", json={"name": MARKUP + "\n" + MARKUP})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "\n" not in answer.json()["error"]
    assert list(answer.json()) == ["error"]


def test_every_answer_has_the_security_headers(place: Place) -> None:
    paths = ("/", "/static/page.js", "/api/state", "/nothing", f"/api/pictures/{place.picture}")
    for path in paths:
        answer = place.client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in answer.headers


def _files(folder: Path) -> dict[str, int]:
    """Everything below `folder` that a request could make, by size; not what is in writing."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("visitors.json",) and path.suffix != ".bin"
    }
