"""What the system refused, as one line whose advice fits the reason.

One table from `errno` to advice: a permission is no lack of space, and a card that turned read-only
is neither. Whoever writes a file raises `cannot_write`; what nobody expected ends in `of_system`.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Mapping

from mobiletl.device.errors import MobileTLError, NoSpace, UsageError
from mobiletl.device.printable import one_line, printable

ADVICE: Mapping[int, str] = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "your share (quota) of that disk is used up: delete files of yours there",
    errno.EFBIG: "the file system takes no file of that size: use a disk with another one",
    errno.EROFS: "it is mounted read-only: mount it for writing (an SD card that wears out turns "
    "read-only by itself; `dmesg` says so)",
    errno.EACCES: "this user may not do that there: ask `ls -ld` whose it is",
    errno.EPERM: "this user may not do that there: ask `ls -ld` and `lsattr -d`",
    errno.EISDIR: "a folder has that name: move it away",
    errno.ENOTDIR: "a part of that path is a file where a folder is expected: check the path",
    errno.EEXIST: "something else has that name already: move it away",
    errno.ENOENT: "a part of that path is missing: check it, and that the disk is mounted",
    errno.ENODEV: "the disk is gone: plug it in and mount it again",
    errno.ENXIO: "the disk is gone: plug it in and mount it again",
    errno.ENAMETOOLONG: "that name is longer than the file system takes: choose a shorter one",
    errno.ELOOP: "a link has that name, and none is followed: remove it",
    errno.EMFILE: "this process has too many files open: raise `ulimit -n`",
    errno.ENFILE: "the whole system has too many files open: end other programs",
    errno.EIO: "the disk does not work: look at `dmesg`, copy what you need, and replace it",
    errno.ESTALE: "the network folder went away: mount it again",
    errno.ETIMEDOUT: "the network folder does not answer: mount it again",
    errno.EBUSY: "something else uses it: wait, or end that program",
    errno.ENOMEM: "the memory is used up: end other programs",
    errno.ENOLCK: "its locks are used up: mount a network folder with locks, or use a local one",
}
# These are about what a person named; the others are the disk's or the system's.
NAMED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.ELOOP)


def reason(error: OSError) -> str:
    """Return what the system says, on one line."""
    return printable(one_line(OSError(error.strerror)) if error.strerror else one_line(error))


def advice(error: OSError, instead: str = "") -> str:
    """Return what to try, by the number of `error`; `instead` is what works in any case."""
    known = "" if error.errno is None else ADVICE.get(error.errno, "")
    return ", or ".join(part for part in (known, instead) if part) or "try another place"


def cannot_write(
    what: str, path: Path, error: OSError, instead: str = "choose another folder with --out"
) -> NoSpace:
    """Return the error that `what` cannot be written to `path`; `what` begins the sentence."""
    return NoSpace(
        f"{what} cannot be written to {printable(str(path))} ({reason(error)}); "
        f"{advice(error, instead)}"
    )


def cannot_read(what: str, path: Path, error: OSError) -> UsageError:
    """Return the error that `what` cannot be read from `path`; `what` begins the sentence."""
    return UsageError(
        f"{what} cannot be read from {printable(str(path))} ({reason(error)}); {advice(error)}"
    )


def of_system(error: OSError) -> MobileTLError:
    """Return an error that no caller expected as one of ours: of what was named, or of the disk."""
    names = [printable(str(name)) for name in (error.filename, error.filename2) if name is not None]
    where = f" ({' to '.join(names)})" if names else ""
    kind = UsageError if error.errno in NAMED else NoSpace
    return kind(f"the system refuses: {reason(error)}{where}; {advice(error)}")
