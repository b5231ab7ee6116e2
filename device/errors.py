"""Every error the device part raises on purpose; the type says whose move it is.

    MobileTLError
    |-- InternalError        1  ours: a bug, please report it
    |-- UsageError           2  yours: a flag or an argument
    |-- BadPictures          3  yours: the picture folder
    |-- BadBundle            4  yours: copy or export the bundle again
    |-- BadState             5  yours: another state file, or a fresh start
    |-- NoSpace              6  yours: free the disk, or choose another folder
    |-- Diverged             7  yours: a smaller learning rate
    |-- MissingDependency    8  yours: one `pip install`
    |-- NotReady            12  the board's: `mobiletl doctor` has said what to type
    |-- NoCamera            13  yours: another camera, or what its line says to type
    |-- InUse               14  another process works on it: wait, or use another folder
    |-- Untrusted           15  yours: say that you trust the bundle, or another runtime
    |-- PicturesAway        16  the disk's or the network's: bring the pictures back, and go on
    |-- BadRound           21  the server's: other software, or another bundle, than the board's
    |-- SitsOut            22  the board's: it does not take part in a round, and says why
    |-- NoFleet            23  the server's: it cannot be started, or its fleet did not finish
    `-- Interrupted        130  nobody's: stopped with Ctrl-C, the state is saved

A message says what was found, what was expected and what to try, on one line. `exit_code` is the
process's exit status; docs/exit-codes.md lists them together with the host's.
"""

from __future__ import annotations


class MobileTLError(Exception):
    """Base of all errors that end a command with one line instead of a traceback."""

    exit_code = 1
    answered = False
    """Whether the command has printed its answer nevertheless, which --json has once."""


class InternalError(MobileTLError):
    """A bug of ours: something the checks before it should have made impossible."""

    exit_code = 1


class UsageError(MobileTLError):
    """A flag or an argument that makes no sense."""

    exit_code = 2


class BadPictures(MobileTLError):
    """The picture folder holds nothing that can be used."""

    exit_code = 3


class BadBundle(MobileTLError):
    """The bundle is missing, changed, malformed, or newer than this program."""

    exit_code = 4


class BadState(MobileTLError):
    """The state file is damaged, belongs to another bundle, or has other tensors."""

    exit_code = 5


class NoSpace(MobileTLError):
    """A file cannot be written: the disk is full or the folder is not writable."""

    exit_code = 6


class Diverged(MobileTLError):
    """The loss, or a tensor of the state, is no longer a finite number."""

    exit_code = 7


class MissingDependency(MobileTLError):
    """A package this command needs is not installed."""

    exit_code = 8


class NoCamera(MobileTLError):
    """No camera is there, or it is busy, silent, or not for this user."""

    exit_code = 13


class PicturesAway(MobileTLError):
    """The pictures cannot be read now, though they may be as good as ever; the state is saved."""

    exit_code = 16


class Untrusted(MobileTLError):
    """The bundle's files are programs, or nobody has signed it, and nobody said to trust it."""

    exit_code = 15


class NotReady(MobileTLError):
    """The doctor found something on this board with which training would fail."""

    exit_code = 12
    answered = True


class InUse(MobileTLError):
    """Another process writes to the same run or cache; its line says which one."""

    exit_code = 14


class BadRound(MobileTLError):
    """A round of a fleet, or what came back of one, does not fit the bundle."""

    exit_code = 21


class SitsOut(MobileTLError):
    """This board does not take part in a round of its fleet."""

    exit_code = 22


class NoFleet(MobileTLError):
    """The server of a fleet cannot be started, or its fleet did not finish."""

    exit_code = 23


class Interrupted(MobileTLError):
    """Stopped with Ctrl-C after the state was saved."""

    exit_code = 130
