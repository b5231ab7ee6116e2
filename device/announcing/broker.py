"""Which MQTT broker is meant and how it is spoken to: address, encryption, login.

A password in a command line can be read by every user of a machine (`ps`), so it comes from the
environment (MOBILETL_MQTT_USER, MOBILETL_MQTT_PASSWORD) or from a file of two lines.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from mobiletl.device.errors import UsageError
from mobiletl.device.printable import printable

PORT, TLS_PORT = 1883, 8883
USER, PASSWORD = "MOBILETL_MQTT_USER", "MOBILETL_MQTT_PASSWORD"
# A name, an IPv4 address, or an IPv6 address in brackets; then perhaps a port.
ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>[\w.-]+))(?::(?P<port>[0-9]+))?"
)


@dataclass(frozen=True)
class Login:
    """Who publishes; the password is shown nowhere."""

    user: str
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Broker:
    """How a broker is reached."""

    host: str
    port: int
    tls: bool = False
    authority: Path | None = None
    """The certificate that signs the broker's; None takes the system's authorities."""
    login: Login | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def broker_of(
    address: str, tls: bool, authority: Path | None, login: Login | None = None
) -> Broker:
    """Read HOST[:PORT]; raises UsageError."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(
            f"--mqtt is {printable(address)}, expected HOST or HOST:PORT, without mqtt:// and "
            "without a password"
        )
    encrypted = tls or authority is not None
    port = int(found["port"] or (TLS_PORT if encrypted else PORT))
    if not 0 < port < 65536:
        raise UsageError(f"--mqtt names port {port}, expected 1 to 65535")
    if authority is not None and not authority.is_file():
        raise UsageError(f"--mqtt-ca: there is no file {printable(str(authority))}")
    return Broker(found["six"] or found["name"], port, encrypted, authority, login)


def login_of(variables: Mapping[str, str], file: Path | None) -> Login | None:
    """Return the login of a file, else of the environment, None for none; raises UsageError."""
    if file is None:
        user, password = variables.get(USER), variables.get(PASSWORD)
        if password is not None and user is None:
            raise UsageError(f"{PASSWORD} is set and {USER} is not; set both")
        return None if user is None else Login(user, password)
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise UsageError(
            f"--mqtt-login {printable(str(file))} cannot be read ({reason}); expected a text file "
            "with the user on the first line and the password on the second"
        ) from error
    if not 1 <= len(lines) <= 2 or not lines[0]:
        raise UsageError(
            f"--mqtt-login {printable(str(file))} has {len(lines)} lines, expected the user on the "
            "first and the password on the second"
        )
    return Login(lines[0], lines[1] if len(lines) == 2 else None)


def prefix_of(given: str | None) -> str:
    """Return the topic that all others are below; `mobiletl/<host name>` if none is given.

    Raises UsageError for what MQTT gives a meaning of its own (MQTT 3.1.1, section 4.7).
    """
    if given is None:
        return "mobiletl/" + (re.sub(r"[^A-Za-z0-9_-]+", "_", socket.gethostname()) or "board")
    wrong = given.startswith(("/", "$")) or given.endswith("/") or "//" in given
    if wrong or not given or set("+#") & set(given) or not given.isprintable() or len(given) > 200:
        raise UsageError(
            f"--mqtt-topic is {printable(given)!r}, expected words with / between them, without "
            "+ and #: home/kitchen"
        )
    return given
