"""Certificates and keys: read by the library that checks them, and only what is missing is made."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from mobiletl.device.errors import UsageError
from mobiletl.fleet.keys import CA, CA_KEY, LIST, SERVER, SERVER_KEY, make_keys

pytest.importorskip("cryptography")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    make_keys(folder, ["127.0.0.1", "fleet.local"], ["kitchen", "garden"])
    return folder


def handshake(keys: Path, name: str) -> str | None:
    """Return the name that a client of `name` has checked, over a real connection."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / SERVER, keys / SERVER_KEY)
    client = ssl.create_default_context(cafile=str(keys / CA))
    here, there = socket.socketpair()

    def answer() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except ssl.SSLError:
            there.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as connected:
            return connected.version()
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "fleet.local", "localhost"])
def test_the_server_is_known_by_its_names(keys: Path, name: str) -> None:
    assert handshake(keys, name) == "TLSv1.3"


def test_another_name_is_refused(keys: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(keys, "elsewhere.local")


def test_private_keys_are_for_their_owner_alone(keys: Path) -> None:
    for name in (CA_KEY, SERVER_KEY, "boards/kitchen", "boards/garden"):
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600


def test_a_fleet_grows_and_what_is_there_stays(keys: Path) -> None:
    before = {name: (keys / name).read_bytes() for name in (CA, SERVER, "boards/kitchen")}
    assert make_keys(keys, [], ["kitchen", "porch"]) == ["porch"]
    assert before == {name: (keys / name).read_bytes() for name in before}
    listed = (keys / LIST).read_text(encoding="ascii").strip().split(",")
    assert len(listed) == 3
    for name in ("kitchen", "garden", "porch"):
        public = (keys / f"boards/{name}.pub").read_text(encoding="ascii")
        assert " ".join(public.split()[:2]) in listed


@pytest.mark.parametrize("name", ["../escape", "a b", "", "x" * 61, "line\nend"])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        make_keys(tmp_path / "keys", ["here"], [name])
    assert not (tmp_path / "keys").exists()
