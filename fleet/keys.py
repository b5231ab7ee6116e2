"""Certificates and keys of a fleet: an authority of its own, the server's, and one key a board.

    ca.pem            what boards check the server with; copy it to each of them
    server.pem .key   what the server shows
    boards/NAME .pub  a board's key; copy both to that board, and to no other
    boards.csv        the public keys of all boards: what the server lets in
    state.key .pub    what the server signs its state with (state_key.py)
    ca.key            signs further servers; keep it off the network

All but the last are elliptic-curve keys on NIST P-384, the kind that Flower's node authentication
takes.
"""

from __future__ import annotations

import csv
import io
import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.replacing import PRIVATE
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.errors import MissingDependency, UsageError
from mobiletl.device.printable import printable
from mobiletl.device.refusals import cannot_write
from mobiletl.fleet.state_key import make_state_key

DAYS = 3650
CA, CA_KEY = "ca.pem", "ca.key"
SERVER, SERVER_KEY = "server.pem", "server.key"
BOARDS, LIST = "boards", "boards.csv"
# The server's own commands come from the machine itself.
OWN_HOSTS = ("localhost", "127.0.0.1")


def make_keys(folder: Path, hosts: Sequence[str], boards: Sequence[str]) -> list[str]:
    """Write what is missing in `folder` for a server at `hosts` and for `boards`, by name.

    What is there stays: a fleet grows by the same call with more boards. Returns the boards that
    are new. Raises UsageError, NoSpace, MissingDependency.
    """
    _check_names(boards)
    crypto = _Crypto()
    try:
        (folder / BOARDS).mkdir(parents=True, exist_ok=True)
        if not (folder / SERVER).exists():
            _write_server(crypto, folder, hosts)
        make_state_key(folder)
        new = [name for name in boards if not (folder / BOARDS / name).exists()]
        for name in new:
            secret, public = crypto.board_key(name)
            # The public one first: a key without it is not used.
            write_whole(folder / BOARDS / f"{name}.pub", public)
            write_whole(folder / BOARDS / name, secret, PRIVATE)
        _write_list(folder)
    except OSError as error:
        raise cannot_write("the fleet's keys", folder, error) from error
    return new


def _check_names(boards: Sequence[str]) -> None:
    for name in boards:
        if not name or not all(char.isalnum() or char in "-_" for char in name) or len(name) > 60:
            raise UsageError(
                f"a board cannot be called '{printable(name)}'; expected letters, digits, - and _, "
                "at most 60 of them"
            )


def _write_server(crypto: _Crypto, folder: Path, hosts: Sequence[str]) -> None:
    authority = crypto.authority()
    certificate, key = crypto.server(authority, hosts)
    write_whole(folder / CA_KEY, crypto.secret(authority[1]), PRIVATE)
    write_whole(folder / CA, crypto.public(authority[0]))
    write_whole(folder / SERVER_KEY, crypto.secret(key), PRIVATE)
    write_whole(folder / SERVER, crypto.public(certificate))


def _write_list(folder: Path) -> None:
    """Write the public keys of all boards, as Flower's SuperLink reads them."""
    found = sorted((folder / BOARDS).glob("*.pub"))
    text = io.StringIO()
    # Without the comment, which would be a second word.
    keys = [" ".join(file.read_text(encoding="ascii").split()[:2]) for file in found]
    csv.writer(text, lineterminator="\n").writerow(keys)
    write_whole(folder / LIST, text.getvalue().encode("ascii"))


class _Crypto:
    """What is needed of the library `cryptography`, which Flower brings."""

    def __init__(self) -> None:
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError as error:
            raise MissingDependency(
                f"keys need {error.name}, which is not installed: pip install 'mobiletl[fleet]'"
            ) from error
        self._x509, self._hashes, self._serialization, self._ec = x509, hashes, serialization, ec

    def new_key(self) -> Any:
        return self._ec.generate_private_key(self._ec.SECP384R1())

    def authority(self) -> tuple[Any, Any]:
        """Return a new authority: its certificate and its key."""
        key = self.new_key()
        name = self._name("mobiletl fleet")
        x509 = self._x509
        certificate = (
            self._begun(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, self._hashes.SHA384())
        )
        return certificate, key

    def server(self, authority: tuple[Any, Any], hosts: Sequence[str]) -> tuple[Any, Any]:
        """Return a certificate of `hosts` that `authority` has signed, and its key."""
        key, x509 = self.new_key(), self._x509
        names = [self._host(host) for host in dict.fromkeys([*hosts, *OWN_HOSTS])]
        certificate = (
            self._begun(self._name(hosts[0]), authority[0].subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(authority[1], self._hashes.SHA384())
        )
        return certificate, key

    def board_key(self, name: str) -> tuple[bytes, bytes]:
        """Return a new board's private and public key, as OpenSSH writes them."""
        key, kinds = self.new_key(), self._serialization
        secret = key.private_bytes(
            kinds.Encoding.PEM, kinds.PrivateFormat.OpenSSH, kinds.NoEncryption()
        )
        public = key.public_key().public_bytes(kinds.Encoding.OpenSSH, kinds.PublicFormat.OpenSSH)
        return secret, public + f" {name}\n".encode("ascii", "replace")

    def public(self, certificate: Any) -> bytes:
        content: bytes = certificate.public_bytes(self._serialization.Encoding.PEM)
        return content

    def secret(self, key: Any) -> bytes:
        kinds = self._serialization
        content: bytes = key.private_bytes(
            kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption()
        )
        return content

    def _begun(self, subject: Any, issuer: Any, key: Any) -> Any:
        now = datetime.now(timezone.utc)
        return (
            self._x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(self._x509.random_serial_number())
            # A board without a clock of its own begins in the past.
            .not_valid_before(now - timedelta(days=DAYS))
            .not_valid_after(now + timedelta(days=DAYS))
        )

    def _name(self, text: str) -> Any:
        name = self._x509.NameAttribute(self._x509.oid.NameOID.COMMON_NAME, text[:64])
        return self._x509.Name([name])

    def _host(self, host: str) -> Any:
        try:
            return self._x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            return self._x509.DNSName(host)
