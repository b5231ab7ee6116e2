"""A bundle's signature, in minisign's format: who has the key has made, or has seen, the manifest.

The manifest holds the hash of every other file, so its signature is the bundle's. `minisign -S -m
manifest.json` writes it (https://jedisct1.github.io/minisign): an Ed25519 signature of the file's
BLAKE2b hash, and one of that signature with a comment. The arithmetic is the library's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from mobiletl.device.bundle.outside_file import OddFile, read_outside
from mobiletl.device.errors import BadState, MissingDependency, Untrusted, UsageError
from mobiletl.device.printable import printable

SUFFIX = ".minisig"
# A line of comment, one of key or signature, and the same of the second signature.
MOST_BYTES = 20_000
MOST_STATE_BYTES = 1 << 30
HASHED, WHOLE = b"ED", b"Ed"
KEY_BYTES, SIGNATURE_BYTES, ID_BYTES = 32, 64, 8
TRUSTED = b"trusted comment: "
INSTALL = 'pip install "mobiletl[signed]"'

# (key, signature, message): raises BadSignature
Verify = Callable[[bytes, bytes, bytes], None]


class BadSignature(Exception):
    """The signature is not of this message and key."""


@dataclass(frozen=True)
class PublicKey:
    """What `minisign -G` writes as a public key."""

    identity: bytes
    key: bytes


def require_state_signature(state: Path, keyfile: str | Path | None) -> None:
    """Raise Untrusted unless the file `state` is signed with the key in `keyfile`, if one is named.

    The server of a fleet signs its state (docs/fleet.md). Raises as `require_signature` does, and
    BadState for a file that cannot be read.
    """
    if keyfile is None:
        return
    try:
        content = read_outside(state, MOST_STATE_BYTES)
    except (OSError, OddFile) as error:
        why = getattr(error, "strerror", None) or error
        raise BadState(f"{printable(str(state))} cannot be read ({why})") from error
    require_signature(state, content, Path(keyfile), "state")


def require_signature(signed: Path, content: bytes, keyfile: Path, what: str = "bundle") -> None:
    """Raise Untrusted unless `content` of the file `signed` is signed with the key in `keyfile`.

    Raises UsageError for a file that holds no key, MissingDependency without the library.
    """
    verify = _library()
    key = read_key(keyfile)
    file = signed.with_name(signed.name + SUFFIX)
    shown = printable(str(file))
    try:
        lines = read_outside(file, MOST_BYTES, follow=False).splitlines()
    except (OSError, OddFile) as error:
        why = getattr(error, "strerror", None) or error
        raise Untrusted(
            f"{shown} cannot be read ({why}), so nobody has signed this {what}; ask its maker for "
            f"it: minisign -S -m {signed.name}"
        ) from error
    try:
        _check(lines, content, key, verify)
    except BadSignature as error:
        raise Untrusted(
            f"{shown} {error}; the {what} is not the one that the owner of "
            f"{printable(str(keyfile))} has signed: do not use it"
        ) from error


def read_key(keyfile: Path) -> PublicKey:
    """Return the key of a file as `minisign -G` writes it; raises UsageError."""
    shown = printable(str(keyfile))
    try:
        lines = read_outside(keyfile, MOST_BYTES).splitlines()
    except (OSError, OddFile) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"key {shown} cannot be read ({why}); name a .pub of minisign") from error
    decoded = _decoded(lines[-1] if lines else b"")
    if len(decoded) != 2 + ID_BYTES + KEY_BYTES or decoded[:2] != WHOLE:
        raise UsageError(f"{shown} holds no public key of minisign; name the .pub file")
    return PublicKey(decoded[2 : 2 + ID_BYTES], decoded[2 + ID_BYTES :])


def _check(lines: list[bytes], content: bytes, key: PublicKey, verify: Verify) -> None:
    if len(lines) < 4 or not lines[2].startswith(TRUSTED):
        raise BadSignature("is no signature of minisign")
    first, second = _decoded(lines[1]), _decoded(lines[3])
    kind, identity, signature = first[:2], first[2 : 2 + ID_BYTES], first[2 + ID_BYTES :]
    if len(signature) != SIGNATURE_BYTES or kind not in (HASHED, WHOLE):
        raise BadSignature("is no signature of minisign")
    if identity != key.identity:
        raise BadSignature("is made with another key")
    message = hashlib.blake2b(content).digest() if kind == HASHED else content
    verify(key.key, signature, message)
    verify(key.key, second, signature + lines[2][len(TRUSTED) :])


def _decoded(line: bytes) -> bytes:
    try:
        return base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _library() -> Verify:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingDependency(
            f"signatures are checked by the package cryptography, which cannot be imported "
            f"({error}); install it: {INSTALL}"
        ) from error

    def verify(key: bytes, signature: bytes, message: bytes) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise BadSignature("does not fit the file beside it") from error

    return verify
