"""What this user knows of bundles on this machine, by their ids: an empty file each.

`own` are bundles that the user exported here. The graphs of `scanned` ones have been looked
through. `opened` are those that a runtime has opened before without harm. An id is a hash over
every file of a bundle, so that a changed one is another. Records are as safe as the user's home:
what another could write to is not believed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

OWN, SCANNED, OPENED, TOKEN = "own", "scanned", "opened", "token"
OTHERS_MAY_WRITE = 0o022


def records_folder() -> Path | None:
    """Return `$XDG_STATE_HOME/mobiletl`, by default below `~/.local/state`; None without a home."""
    named = os.environ.get("XDG_STATE_HOME", "")
    # The XDG specification has relative paths ignored.
    if named and Path(named).is_absolute():
        return Path(named) / "mobiletl"
    try:
        return Path.home() / ".local" / "state" / "mobiletl"
    # A service's user may have no home, and no entry among the users.
    except (RuntimeError, KeyError):
        return None


def remember(kind: str, name: str) -> None:
    """Keep a record, where there is a place for it."""
    folder = records_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        place = folder / kind
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        (place / name).touch(mode=0o600)


def remembered(kind: str, name: str) -> bool:
    """Whether there is such a record, and nobody else can have made it."""
    folder = records_folder()
    if folder is None:
        return False
    try:
        place, record = (folder / kind).stat(), (folder / kind / name).lstat()
    except OSError:
        return False
    mine = {status.st_uid for status in (place, record)} <= {os.getuid()}
    return mine and not (place.st_mode | record.st_mode) & OTHERS_MAY_WRITE


def own_token() -> str:
    """Return what files that this user makes on this machine are marked with, to be known again.

    It is drawn once and means nothing elsewhere. Empty where there is no place to keep it.
    """
    folder = records_folder()
    if folder is None:
        return ""
    file = folder / TOKEN
    try:
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            drawn = folder / f"{TOKEN}.{os.getpid()}"
            drawn.write_text(secrets.token_hex(16))
            drawn.chmod(0o600)
            drawn.replace(file)
        return file.read_text()[:64]
    except (OSError, UnicodeDecodeError):
        return ""
