"""Which camera a person means by a word: one row for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from mobiletl.device.cameras.base import Camera, Wanted
from mobiletl.device.cameras.folder import FolderCamera
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import printable


@dataclass(frozen=True)
class Kind:
    """One row: the first that `means` a source opens it."""

    name: str
    shown: str
    """How a person writes it, for messages and help."""
    means: Callable[[str], bool]
    open: Callable[[str, Wanted], Camera]
    """Raises CameraLost, NoCamera, MissingDependency."""


def _folder(source: str, wanted: Wanted) -> Camera:
    return FolderCamera(Path(source), wanted.rate)


KINDS: tuple[Kind, ...] = (
    Kind("folder", "a folder of pictures", lambda source: Path(source).is_dir(), _folder),
)


def kind_of(source: str) -> Kind:
    """Return the row for `source`; raises UsageError, which lists all kinds."""
    for kind in KINDS:
        if kind.means(source):
            return kind
    known = "; ".join(kind.shown for kind in KINDS)
    raise UsageError(f"--camera {printable(source)} is none of: {known}")
