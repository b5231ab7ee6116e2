"""What can go wrong on the host, and whose move it is then.

    MobileTLError
    ├── UsageError          2   a flag or argument is wrong: yours
    ├── NoSpace             6   disk full, or a folder that can't be written: yours
    ├── MissingDependency   8   a package of the [export] extra is not installed: yours
    ├── UnsupportedModel    9   model, method, blocks or resolution we can't export: choose another
    ├── BadWeights         10   a weights file unreadable, or of another network: yours
    └── NoNetwork          11   a download failed: yours, or name weights that need none

The number is the exit code of the command that meets the error (docs/exit-codes.md); anything that
is not in this tree is our bug and exits with 1. A message says what was found, what was expected
and what to try, in one line. Boards have a tree of their own in device/; `finish` raises its
BadPictures, BadBundle and BadState, because it reads what boards read.
"""

from __future__ import annotations

from typing import ClassVar


class MobileTLError(Exception):
    """An error that a person can act on; commands print it as one line."""

    exit_code: ClassVar[int] = 1


class UsageError(MobileTLError):
    """A flag or argument is wrong."""

    exit_code: ClassVar[int] = 2


class NoSpace(MobileTLError):
    """The disk is full or the folder can't be written."""

    exit_code: ClassVar[int] = 6


class MissingDependency(MobileTLError):
    """A package that the command needs is not installed."""

    exit_code: ClassVar[int] = 8


class UnsupportedModel(MobileTLError):
    """The model, method, number of blocks or resolution can't be exported."""

    exit_code: ClassVar[int] = 9


class BadWeights(MobileTLError):
    """A weights file can't be read, or holds another network."""

    exit_code: ClassVar[int] = 10


class NoNetwork(MobileTLError):
    """A download was needed and not possible."""

    exit_code: ClassVar[int] = 11
