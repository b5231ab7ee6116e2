"""The key with which a server signs its fleet's state, in the format of minisign.

Connections are between a board and the server and checked there; a state that goes on by other
ways, on a stick or from a web page, carries its signature beside it. `mobiletl predict|finish
--state-key state.pub` checks it, and so does `minisign -V -p state.pub -m state.safetensors`.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.replacing import PRIVATE
from mobiletl.device.bundle.signature import HASHED, ID_BYTES, SUFFIX, TRUSTED, WHOLE
from mobiletl.device.bundle.whole_file import write_whole
from mobiletl.device.errors import MissingDependency, UsageError
from mobiletl.device.printable import one_line, printable

KEY, PUBLIC = "state.key", "state.pub"
_COMMENT = "untrusted comment: "


def make_state_key(folder: Path) -> None:
    """Write a new key into `folder`, unless it has one; raises OSError, MissingDependency."""
    if (folder / KEY).exists():
        return
    kinds, ed25519 = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    public = _public_bytes(key, kinds)
    text = _line("mobiletl's public key of a fleet", WHOLE + _identity(public) + public)
    secret = key.private_bytes(kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption())
    # The public one first: a key without it is made anew.
    write_whole(folder / PUBLIC, text.encode("ascii"))
    write_whole(folder / KEY, secret, PRIVATE)


def sign_file(path: Path, key: Path, comment: str) -> None:
    """Write the signature of `path` beside it; `comment` is signed as well, as minisign does it.

    Raises OSError, UsageError for a file that is no such key.
    """
    kinds, ed25519 = _library()
    try:
        secret = kinds.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{printable(str(key))} holds no key ({one_line(error)}); remove it and its .pub, and "
            "make them anew with `mobiletl fleet keys`"
        ) from error
    if not isinstance(secret, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{printable(str(key))} holds another kind of key than Ed25519")
    signature = secret.sign(hashlib.blake2b(path.read_bytes()).digest())
    whole = secret.sign(signature + comment.encode("utf-8"))
    identity = _identity(_public_bytes(secret, kinds))
    text = _line("signature by the server of a fleet", HASHED + identity + signature)
    text += f"{TRUSTED.decode()}{comment}\n{base64.b64encode(whole).decode()}\n"
    write_whole(path.with_name(path.name + SUFFIX), text.encode("utf-8"))


def _line(comment: str, content: bytes) -> str:
    return f"{_COMMENT}{comment}\n{base64.b64encode(content).decode()}\n"


def _public_bytes(key: Any, kinds: Any) -> bytes:
    raw: bytes = key.public_key().public_bytes(kinds.Encoding.Raw, kinds.PublicFormat.Raw)
    return raw


def _identity(public: bytes) -> bytes:
    return hashlib.blake2b(public, digest_size=ID_BYTES).digest()


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingDependency(
            f"keys need {error.name}, which is not installed: pip install 'mobiletl[fleet]'"
        ) from error
    return serialization, ed25519
