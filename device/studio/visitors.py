"""Who may use the studio: sessions, kept as hashes in a file that only its owner can read."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from pathlib import Path
from typing import Callable

from mobiletl.device.bundle.replacing import PRIVATE
from mobiletl.device.bundle.schema import mapping, number, text
from mobiletl.device.studio.files import write_whole

TOKEN_BYTES = 32
# The oldest are forgotten first.
MOST = 100
LIFE_SECONDS = 30 * 24 * 3600
MOST_BYTES = 65536
_FILE = mapping(text(r"[0-9a-f]{64}"), number(minimum=0.0))


class Visitors:
    """Sessions by the SHA-256 of their token: the file gives nobody one."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Read who is known; a file that is damaged means that all pair again."""
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        try:
            document = json.loads(path.read_bytes()[:MOST_BYTES].decode("utf-8"))
        except (OSError, ValueError, RecursionError):
            return
        problems: list[str] = []
        _FILE(document, "visitors", problems)
        if not problems:
            self._began = dict(document)

    def begin(self) -> str:
        """Return the token of a new session; raises NoSpace."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            now = self._clock()
            there = {name: at for name, at in self._began.items() if now - at < LIFE_SECONDS}
            there[_hashed(token)] = now
            newest = sorted(there, key=lambda name: there[name])[-MOST:]
            self._began = {name: there[name] for name in newest}
            content = json.dumps(self._began, indent=1) + "\n"
            write_whole(self._path, content.encode("ascii"), PRIVATE)
        return token

    def knows(self, token: str) -> bool:
        """Return whether this is the token of a session."""
        began = self._began.get(_hashed(token))
        # A board without a clock may have been years back when the session began.
        return began is not None and self._clock() - began < LIFE_SECONDS


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).hexdigest()
