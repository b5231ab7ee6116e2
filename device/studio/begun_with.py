"""The pictures that a training began with, so that one can say whether it can go on.

A run goes on with the very pictures that it began with, or not at all: the result would be that of
no command. What they were is kept beside the run, as numbers by class and a hash.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from mobiletl.device.bundle.schema import fields, integer, mapping, one_of, text
from mobiletl.device.errors import MobileTLError
from mobiletl.device.printable import printable
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.studio.album import Album
from mobiletl.device.studio.files import write_whole

FILE = "began-with.json"
MOST_BYTES = 262_144
# Differences that one line names.
MOST_NAMED = 3
ANEW = "train anew, which begins with what is there"

logger = logging.getLogger(__name__)
_FILE = fields(
    {"version": one_of(1), "classes": mapping(text(), integer()), "hash": text(r"[0-9a-f]{64}")}
)


@dataclass(frozen=True)
class BegunWith:
    """Pictures by class and in all."""

    classes: Mapping[str, int]
    hash: str

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> BegunWith:
        """Take the class of every picture by its id."""
        content = json.dumps(sorted(labels.items())).encode("ascii")
        return cls(dict(Counter(labels.values())), hashlib.sha256(content).hexdigest())

    def keep(self, run: Path) -> None:
        """Write it into the folder of a run; raises NoSpace."""
        content = json.dumps({"version": 1, **asdict(self)}, indent=1) + "\n"
        write_whole(run / FILE, content.encode("ascii"))

    def problem(self, now: BegunWith) -> str:
        """Say why a run that began with these cannot go on with those of `now`; else nothing."""
        if self.hash == now.hash:
            return ""
        names = sorted({*self.classes, *now.classes})
        found = [
            words
            for name in names
            for words in [_difference(name, self.classes.get(name), now.classes.get(name))]
            if words
        ]
        found = found or ["others in their place"]
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        listed = ", ".join(found[:MOST_NAMED]) + more
        return f"the pictures have changed since this training began ({listed}); {ANEW}"


def begun_with(run: Path) -> BegunWith | None:
    """Return what the run in a folder began with; None where that is not known."""
    try:
        document: Any = json.loads((run / FILE).read_bytes()[:MOST_BYTES].decode("ascii"))
    except (OSError, ValueError, RecursionError):
        return None
    problems: list[str] = []
    _FILE(document, "", problems)
    return None if problems else BegunWith(document["classes"], document["hash"])


class Beginnings:
    """What the training of now began with, and whether one that has stopped can go on.

    Belongs to whoever holds the lock of the training.
    """

    def __init__(self, album: Album) -> None:
        """Know of no training yet."""
        self._album = album
        self._begins: BegunWith | None = None
        self._blocked: tuple[Path, int, bool, str] | None = None

    def begin(self) -> None:
        """A training is about to look at the pictures."""
        self._begins = BegunWith.of(self._album.labels())

    def seen(self, run: Path) -> None:
        """The training has looked at the pictures: keep what they were in its folder."""
        began, self._begins = self._begins, None
        # Where they have changed meanwhile, nobody here knows which of them it has seen.
        if began is not None and began == BegunWith.of(self._album.labels()):
            try:
                began.keep(run)
            except MobileTLError:
                logger.warning("what the training began with could not be kept", exc_info=True)

    def why_blocked(self, run: Path) -> str:
        """Say why a training that has stopped cannot go on; else nothing."""
        key = (run, self._album.revision, RunFolder(run).resumable())
        if self._blocked is None or self._blocked[:3] != key:
            self._blocked = (*key, self._look(run) if key[2] else f"nothing was saved yet; {ANEW}")
        return self._blocked[3]

    def _look(self, run: Path) -> str:
        began = begun_with(run)
        changed = "" if began is None else began.problem(BegunWith.of(self._album.labels()))
        return lack_of(self._album.counts()) or changed


def lack_of(counts: Sequence[tuple[str, int]]) -> str:
    """Say what a training lacks that begins or goes on with so many pictures of each class."""
    empty = [name for name, count in counts if not count]
    if empty:
        return f"class '{printable(empty[0])}' has no picture; add some, or delete the class"
    if len(counts) < 2:
        return "training needs pictures of two classes or more"
    if max(count for _, count in counts) < 2:
        return "training needs two pictures of a class or more; add some"
    return ""


def _difference(name: str, before: int | None, after: int | None) -> str:
    shown = printable(name)
    if before is None or after is None:
        return f"class '{shown}' is {'new' if before is None else 'gone'}"
    if before == after:
        return ""
    return f"'{shown}' had {before} and has {after}"
