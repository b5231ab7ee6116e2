"""Addresses, logins and topics as people give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobiletl.device.announcing.broker import Login, broker_of, login_of, prefix_of
from mobiletl.device.errors import UsageError


@pytest.mark.parametrize(
    ("address", "tls", "host", "port"),
    [
        ("broker.local", False, "broker.local", 1883),
        ("broker.local", True, "broker.local", 8883),
        ("192.168.1.2:1884", True, "192.168.1.2", 1884),
        ("[fe80::1%eth0]:1", False, "fe80::1%eth0", 1),
        ("[::1]", False, "::1", 1883),
    ],
)
def test_addresses(address: str, tls: bool, host: str, port: int) -> None:
    found = broker_of(address, tls, None)
    assert (found.host, found.port, found.tls) == (host, port, tls)


@pytest.mark.parametrize(
    "address",
    ["", "mqtt://host", "user:secret@host", "host:", "host:0", "host:70000", "a b", "::1"],
)
def test_wrong_addresses(address: str) -> None:
    with pytest.raises(UsageError, match="--mqtt"):
        broker_of(address, False, None)


def test_an_authority_means_encryption(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("")
    assert broker_of("host", False, file).tls
    with pytest.raises(UsageError, match="no file"):
        broker_of("host", False, tmp_path / "none")


def test_logins(tmp_path: Path) -> None:
    assert login_of({}, None) is None
    variables = {"MOBILETL_MQTT_USER": "me", "MOBILETL_MQTT_PASSWORD": "secret"}
    assert login_of(variables, None) == Login("me", "secret")
    file = tmp_path / "login"
    file.write_text("you\nother\n")
    assert login_of(variables, file) == Login("you", "other")
    file.write_text("you")
    assert login_of({}, file) == Login("you", None)
    assert "secret" not in repr(Login("me", "secret"))


def test_wrong_logins(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="MOBILETL_MQTT_USER is not"):
        login_of({"MOBILETL_MQTT_PASSWORD": "secret"}, None)
    file = tmp_path / "login"
    for content in (b"", b"\n", b"a\nb\nc\n", b"\xff\xfe\n"):
        file.write_bytes(content)
        with pytest.raises(UsageError, match="--mqtt-login"):
            login_of({}, file)
    with pytest.raises(UsageError, match="cannot be read"):
        login_of({}, tmp_path / "none")


def test_prefixes() -> None:
    assert prefix_of("home/kitchen") == "home/kitchen"
    assert prefix_of(None).startswith("mobiletl/")
    for wrong in ("", "/a", "a/", "a//b", "a/#", "+", "$SYS", "a\x00b", "x" * 201):
        with pytest.raises(UsageError, match="--mqtt-topic"):
            prefix_of(wrong)
