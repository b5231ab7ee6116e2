"""Clients that are slow, that never end, or that are too many cost themselves, not the board."""

from __future__ import annotations

import contextlib
import io
import socket
import time
from pathlib import Path
from typing import Iterator

import pytest

for package in ("httpx", "starlette", "uvicorn"):
    pytest.importorskip(package)

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from mobiletl.device.studio import protocol, requests, streams  # noqa: E402
from runtime_tests.support.board.studio_service import (  # noqa: E402
    LOOPBACK,
    Client,
    cameras_folder,
    served,
)
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle  # noqa: E402

SHORT = 0.7


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A studio whose time limits are short."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", SHORT)
    monkeypatch.setattr(protocol, "STALLED_SECONDS", SHORT)
    monkeypatch.setattr(requests, "PIECE_SECONDS", SHORT)
    bundle = write_tiny_bundle(tmp_path / "bundle")
    camera = cameras_folder(tmp_path / "camera")
    with served(bundle, tmp_path / "project", camera) as server, Client(server.port) as client:
        client.opened().ask("classes", name="cat")
        yield client


def _head(client: Client, start: str, *lines: str) -> bytes:
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    address = f"{LOOPBACK}:{client.port}"
    own = [f"{start} HTTP/1.1", f"Host: {address}", f"Cookie: {cookies}"]
    own += [f"Origin: http://{address}", "X-Mobiletl: 1", *lines]
    return ("\r\n".join(own) + "\r\n\r\n").encode("latin-1")


def _connected(client: Client) -> socket.socket:
    return socket.create_connection((LOOPBACK, client.port), 10)


def _ended(connection: socket.socket) -> bool:
    """Whether the studio ends the connection, whatever it says before."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except socket.timeout:
        return False
    return True


def test_a_head_that_comes_byte_by_byte_ends(client: Client) -> None:
    with _connected(client) as connection:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in _head(client, "GET /api/state"):
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        assert time.monotonic() - began < 5
        assert _ended(connection)
    client.state()


def test_a_second_head_that_comes_slowly_ends_too(client: Client) -> None:
    with _connected(client) as connection:
        connection.sendall(_head(client, "GET /api/state"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /api/st")
        assert _ended(connection)


def test_who_connects_and_says_nothing_is_let_go(client: Client) -> None:
    with _connected(client) as connection:
        assert _ended(connection)


def test_a_body_that_stops_is_answered_and_nothing_is_left(client: Client, tmp_path: Path) -> None:
    with _connected(client) as connection:
        connection.sendall(_head(client, "POST /api/pictures?class=cat", "Content-Length: 9999"))
        connection.sendall(b"\xff\xd8\xff")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert _ended(connection)
    assert not [*(tmp_path / "project").rglob(".new-*")]


def test_a_body_that_breaks_off_leaves_nothing(client: Client, tmp_path: Path) -> None:
    with _connected(client) as connection:
        connection.sendall(_head(client, "POST /api/pictures?class=cat", "Content-Length: 9999"))
        connection.sendall(b"\xff\xd8\xff" * 1000)
        time.sleep(0.2)
    time.sleep(0.3)
    assert not [*(tmp_path / "project").rglob(".new-*")]
    assert client.state()["pictures"] == 0


def test_who_does_not_read_an_answer_loses_the_connection(client: Client) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    name = client.add("cat", out.getvalue()).json()["id"]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect((LOOPBACK, client.port))
        connection.sendall(_head(client, f"GET /api/pictures/{name}"))
        time.sleep(SHORT + 1.5)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += len(piece)
    assert 0 < received < len(out.getvalue())
    client.state()


@pytest.mark.parametrize(
    ("path", "most"),
    [("/api/events", streams.MOST_EVENTS), ("/camera.mjpg", streams.MOST_CAMERAS)],
)
def test_streams_are_counted_and_given_back(client: Client, path: str, most: int) -> None:
    client.wait(lambda state: state["camera"]["state"] == "live")
    with contextlib.ExitStack() as opened:
        for _ in range(most):
            connection = opened.enter_context(_connected(client))
            connection.sendall(_head(client, f"GET {path}"))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        refused = client.get(path)
        assert refused.status_code == 503
        assert "too many" in refused.json()["error"]
    until = time.monotonic() + 10
    while True:
        with client.stream("GET", path) as answer:
            if answer.status_code == 200:
                break
        assert time.monotonic() < until
        time.sleep(0.1)


def test_one_address_does_not_take_all_connections(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 30.0)
    client.state()
    with contextlib.ExitStack() as opened:
        for _ in range(protocol.MOST_OF_ONE_ADDRESS + 20):
            with contextlib.suppress(OSError):
                opened.enter_context(_connected(client))
        client.state()  # on the connection that it has kept
    time.sleep(0.3)
    with Client(client.port) as another:
        another.opened()
