"""The folder of a studio: pictures, versions, and a small file of what else is to last.

pictures/<class>/<id>.jpg   an ordinary data set: `mobiletl train --data PROJECT/pictures`
versions/<id>/              ordinary run folders, `--state VERSION/state.safetensors` for `predict`
studio.json                 the version in use, and the training that runs or ran last
visitors.json               who is paired, as hashes; nobody else may read it
embeddings-<bundle>.bin     what the network said of each picture
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.closing import Closing
from mobiletl.device.bundle.schema import fields, integer, one_of, text
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import printable
from mobiletl.device.studio.files import no_space, remove_temporaries, write_whole

LIVE = "live"
VERSION = 1
# `studio.json` has a few hundred bytes.
MOST_BYTES = 65536


@dataclass(frozen=True)
class Child:
    """A training process by what tells it from a later one of the same number."""

    version: str
    pid: int
    began: int
    """When it began, in ticks since the board was started (proc(5), starttime)."""
    boot: str
    """Which start of the board that was."""
    alone: bool = False
    """Whether the studio gave up its own network for it, because memory is short."""


@dataclass(frozen=True)
class Kept:
    """What `studio.json` says."""

    using: str = LIVE
    training: Child | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        training = None if self.training is None else asdict(self.training)
        return {
            "version": VERSION,
            "using": self.using,
            "training": training,
        }


# The name of a version's folder; it also comes in requests.
VERSION_ID = r"(?:taught|trained)-\d{8}-\d{6}(?:-\d{1,3})?"
_KEPT = fields({"version": one_of(VERSION), "using": text(f"{LIVE}|{VERSION_ID}")})
_CHILD = fields(
    {
        "version": text(VERSION_ID),
        "pid": integer(1),
        "began": integer(),
        "boot": text(r"[0-9a-f-]*"),
        "alone": one_of(True, False),
    }
)


class Project(Closing):
    """One project, which one server at a time may have open."""

    def __init__(self, path: Path) -> None:
        """Make the folders and take the lock; raises NoSpace, UsageError."""
        self.path = path
        self.pictures = path / "pictures"
        self.versions = path / "versions"
        self.visitors = path / "visitors.json"
        self.notes: list[str] = []
        self._file = path / "studio.json"
        self._guard = threading.Lock()
        try:
            for folder in (self.pictures, self.versions):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
        except OSError as error:
            raise no_space(path, error) from error
        remove_temporaries(path)
        self.kept = self._read()

    def keep(self, **changed: Any) -> None:
        """Change what lasts, by the names of `Kept`; raises NoSpace and changes nothing then."""
        with self._guard:
            kept = replace(self.kept, **changed)
            if kept != self.kept:
                content = json.dumps(kept.document(), indent=1) + "\n"
                write_whole(self._file, content.encode("utf-8"))
                self.kept = kept

    def close(self) -> None:
        """Let another server have the project."""
        os.close(self._lock)

    def _read(self) -> Kept:
        """Return what the file says; one that is damaged costs a note and what it said."""
        try:
            content = self._file.read_bytes()[:MOST_BYTES]
        except FileNotFoundError:
            return Kept()
        except OSError as error:
            raise no_space(self._file, error) from error
        problems: list[str] = []
        try:
            document = json.loads(content.decode("utf-8"))
        except (ValueError, RecursionError):
            problems.append("it is no JSON")
        else:
            kept = _kept_of(document, problems)
            if kept is not None:
                return kept
        self.notes.append(
            f"studio.json was damaged ({problems[0]}), so the live classifier is in use, and a "
            "training that runs is not known"
        )
        return Kept()


def _kept_of(document: Any, problems: list[str]) -> Kept | None:
    _KEPT(document, "", problems)
    if problems:
        return None
    child = document.get("training")
    if child is not None:
        _CHILD(child, "training", problems)
    if problems:
        return None
    training = None
    if child is not None:
        training = Child(**{name: child[name] for name in Child.__annotations__})
    return Kept(document["using"], training)


def _locked(path: Path) -> int:
    """Open the lock of a project; the system lets it go when the process ends."""
    import fcntl

    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(str(path / "studio.lock"), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UsageError(
            f"another studio has {printable(str(path))} open; stop it, or name another folder with "
            "--project"
        ) from None
    return descriptor
